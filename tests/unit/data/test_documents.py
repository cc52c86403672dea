"""Documents as stretches of one array."""

import tempfile

import numpy as np

from pipeline.data.documents import Documents, TokenFile, id_type


def test_documents_are_split_where_the_loop_would_split_them() -> None:
    given = [np.arange(length, dtype=np.int32) for length in (0, 1, 2, 7, 8, 9, 16, 17)]
    documents = Documents.of(given)
    for fewest in (1, 2):
        parts, owners = documents.split(8, fewest=fewest)
        expected = [
            (number, document[start : start + 8].tolist())
            for number, document in enumerate(given)
            for start in range(0, len(document) - fewest + 1, 8)
        ]
        found = [(owner, part.tolist()) for owner, part in zip(owners, parts, strict=True)]
        assert found == expected


def test_ids_come_back_from_a_file_in_the_smallest_type_that_holds_them() -> None:
    for num_ids, largest, size_bytes in ((1 << 16, 65_535, 2), ((1 << 16) + 1, 65_536, 4)):
        with tempfile.TemporaryFile() as stream:
            file = TokenFile(stream, id_type(num_ids))
            assert file.tokens().tolist() == []
            file.append(np.array([0, largest], dtype=np.int32))
            file.append(np.array([3], dtype=np.int32))
            tokens = file.tokens()
        assert tokens.tolist() == [0, largest, 3]
        assert tokens.itemsize == size_bytes
