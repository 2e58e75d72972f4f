"""Texts and pictures as queries, in the joint space of an encoder."""
