"""Do pictures find their own captions? Whether an encoder's texts fit its pictures."""

from collections.abc import Sequence

import numpy as np

from models.search.joint import Joint


def caption_ranks(joint: Joint, pictures: Sequence[bytes], captions: Sequence[str]) -> list[int]:
    """Where each picture's own caption comes among all captions, by cosine.

    Args:
        joint: the encoder's joint space.
        pictures: PNG, JPEG or WebP files.
        captions: one for each picture.

    Returns:
        1 where the own caption is nearer than any other; as many as there are captions where every
        other is at least as near. By chance alone one picture finds its caption.

    Raises:
        ModelError, QueryError: as `Joint.text` and `Joint.image` do.
    """
    texts = np.stack([joint.text(caption) for caption in captions])
    ranks = []
    for number, picture in enumerate(pictures):
        cosines = texts @ joint.image(picture)
        # Others that are as near come first: a network that says the same of all finds nothing.
        ranks.append(int((cosines >= cosines[number]).sum()) if np.isfinite(cosines).all() else 0)
    return [rank or len(captions) for rank in ranks]
