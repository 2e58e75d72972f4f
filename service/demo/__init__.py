"""The bundled example: its data set, its S3 server, and what runs on it."""
