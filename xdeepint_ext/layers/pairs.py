"""The pairs of a field matrix's rows."""

from __future__ import annotations


def field_pairs(fields: int, layer: str) -> tuple[list[int], list[int]]:
    """The i and the j of all pairs i < j of F rows, pair after pair: (0, 1), (0, 2) .. (F - 2, F - 1).

    Raises:
      ValueError: there are fewer than two rows.
    """
    if fields < 2:
        raise ValueError(f"{layer}: wants at least two fields, got {fields}")
    pairs = [(i, j) for i in range(fields) for j in range(i + 1, fields)]
    return [i for i, _ in pairs], [j for _, j in pairs]
