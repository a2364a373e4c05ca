"""The passages that programs of the corpus are put together from, one table a slot.

Invariant: every combination of choices is a program that parses; whether it is right, fast, or runs at all is not
known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Layout(NamedTuple):
    """Where the channels stand in the arrays of a program: last, as in the inputs, or before the pairs."""

    axis: int
    column: str
    """Index that turns a vector over channels into what can be multiplied with them."""
    first: bool


class Form(NamedTuple):
    """What passages of one program agree on."""

    layout: Layout
    incoming: bool
    masks: tuple[bool, bool]
    """Whether the mask stands on the left and on the right factor."""


class Passage(NamedTuple):
    """Lines of the function, and a helper that stands before it."""

    lines: tuple[str, ...]
    helper: str = ""


LAYOUTS = {"last": Layout(-1, "", first=False), "first": Layout(1, "[:, None]", first=True)}
DIRECTIONS = {"outgoing": False, "incoming": True}
MASKS = {"both": (True, True), "left": (True, False), "none": (False, False)}

SHAPE = "B, N, _, C = data['x'].shape"
CASTS = {
    "knob": Passage((SHAPE, "d = {k: v.astype(DTYPE) for k, v in data.items()}")),
    "native": Passage((SHAPE, "d = data")),
    "double": Passage((SHAPE, "d = {k: v.astype(np.float64) for k, v in data.items()}")),
}

K = "'left', 'left_gate', 'right', 'right_gate', 'out_gate'"


def _norm(centre: str, spread: str, steps: tuple[str, ...]) -> Callable[[Form], Passage]:
    def passage(form: Form) -> Passage:
        axis, column, first = form.layout
        x = "np.ascontiguousarray(d['x'].reshape(B, N * N, C).transpose(0, 2, 1))" if first else "d['x']"
        words = {"x": "z" if first else x, "axis": axis, "column": column, "sum": SUMS[first]}
        opened = (f"z = {x}",) if first else ()
        return Passage((*opened, *(line.format(**words) for line in (centre, spread, *steps))))

    return passage


SUMS = {False: "np.einsum('bijc,bijc->bij', z, z)[..., None] / C", True: "np.einsum('bcp,bcp->bp', z, z)[:, None] / C"}
CENTRED = "z = {x} - {x}.mean({axis}, keepdims=True)"
SCALED = ("z = z * d['norm_w']{column} + d['norm_b']{column}",)
NORMS: Mapping[str, Callable[[Form], Passage]] = {
    "layer": _norm(CENTRED, "z = z / np.sqrt((z * z).mean({axis}, keepdims=True) + 1e-5)", SCALED),
    "variance": _norm(CENTRED, "z = z / np.sqrt(z.var({axis}, keepdims=True) + 1e-5)", SCALED),
    "rms": _norm("z = {x}", "z = z / np.sqrt((z * z).mean({axis}, keepdims=True) + 1e-5)", SCALED),
    "in_place": _norm(CENTRED, "z /= np.sqrt({sum} + 1e-5)", ("z *= d['norm_w']{column}", "z += d['norm_b']{column}")),
}


def _projected(each: str, each_first: str) -> Callable[[Form], Passage]:
    def passage(form: Form) -> Passage:
        one = each_first if form.layout.first else each
        return Passage((f"l, s, r, t, g = ({one} for k in ({K}))", _mask(form)))

    return passage


def _stacked(form: Form) -> Passage:
    weights = f"w = np.concatenate([d[k] for k in ({K})])"
    product, axis = ("w @ z", 1) if form.layout.first else ("z @ w.T", -1)
    return Passage((weights, f"l, s, r, t, g = np.split({product}, 5, axis={axis})", _mask(form)))


def _mask(form: Form) -> str:
    return "m = d['mask'].reshape(B, 1, N * N)" if form.layout.first else "m = d['mask'][..., None]"


PROJECTIONS: Mapping[str, Callable[[Form], Passage]] = {
    "einsum": _projected("np.einsum('bijc,hc->bijh', z, d[k])", "np.einsum('bcp,hc->bhp', z, d[k])"),
    "matmul": _projected("z @ d[k].T", "d[k] @ z"),
    "stacked": _stacked,
}

COMPILED = "def gated(v, u):\n    return v / (1 + np.exp(-u))\n\n\ngated = njit(gated)\n\n\n"
IN_PLACE = ("np.exp(np.negative({0}, out={0}), out={0})", "{0} += 1")


def _gates(one: str, helper: str = "", before: tuple[str, ...] = ()) -> Callable[[Form], Passage]:
    def passage(form: Form) -> Passage:
        lines = [line.format(gate) for gate in ("s", "t") for line in before]
        for factor, gate, masked in zip("lr", "st", form.masks, strict=True):
            lines.append(f"{factor} = {one.format(factor, gate)}{' * m' if masked else ''}")
        return Passage(tuple(lines), helper)

    return passage


GATES: Mapping[str, Callable[[Form], Passage]] = {
    "plain": _gates("{0} / (1 + np.exp(-{1}))"),
    "stable": _gates("{0} * np.exp(-np.logaddexp(0, -{1}))"),
    "tanh": _gates("{0} * (0.5 + 0.5 * np.tanh(0.5 * {1}))"),
    "compiled": _gates("gated({0}.ravel(), {1}.ravel()).reshape({0}.shape)", COMPILED),
    "in_place": _gates("{0} / {1}", before=IN_PLACE),
}

LOOPS = """def triangle(l, r):
    o = np.zeros_like(l)
    for b in range(o.shape[0]):
        for i in range(o.shape[1]):
            for j in range(o.shape[1]):
                for k in range(o.shape[1]):
                    for h in range(o.shape[3]):
                        o[b, i, j, h] += {0} * {1}
    return o


triangle = njit(triangle)


"""
ROWS = "o = np.concatenate([{} for i in range(0, N, ROWS)], axis={})"


def _contraction(last: Callable[[Form], tuple[str, ...]], first: Callable[[Form], str]) -> Callable[[Form], Passage]:
    def passage(form: Form) -> Passage:
        if not form.layout.first:
            return Passage(last(form))
        opened = "l, r = l.reshape(B, -1, N, N), r.reshape(B, -1, N, N)"
        return Passage((opened, first(form), "o = o.reshape(B, -1, N * N)"))

    return passage


def _sum(form: Form, options: str = "") -> tuple[str, ...]:
    indices = "bkid,bkjd->bijd" if form.incoming else "bikd,bjkd->bijd"
    return (f"o = np.einsum('{indices}', l, r{options})",)


def _sum_first(form: Form, options: str = "") -> str:
    indices = "bdki,bdkj->bdij" if form.incoming else "bdik,bdjk->bdij"
    return f"o = np.einsum('{indices}', l, r{options})"


def _row_sums(form: Form) -> tuple[str, ...]:
    part, indices = (
        ("l[:, :, i : i + ROWS]", "bkid,bkjd->bijd") if form.incoming else ("l[:, i : i + ROWS]", "bikd,bjkd->bijd")
    )
    return (ROWS.format(f"np.einsum('{indices}', {part}, r, optimize=True)", 1),)


def _row_sums_first(form: Form) -> str:
    if form.incoming:
        return ROWS.format("l[..., i : i + ROWS].transpose(0, 1, 3, 2) @ r", 2)
    return ROWS.format("l[:, :, i : i + ROWS] @ r.transpose(0, 1, 3, 2)", 2)


def _by_channel(form: Form) -> tuple[str, ...]:
    product = "l[b, :, :, h].T @ r[b, :, :, h]" if form.incoming else "l[b, :, :, h] @ r[b, :, :, h].T"
    return ("o = np.empty_like(l)", "for b, h in np.ndindex(B, l.shape[3]):", f"    o[b, :, :, h] = {product}")


def _by_channel_first(form: Form) -> str:
    product = "l[b, h].T @ r[b, h]" if form.incoming else "l[b, h] @ r[b, h].T"
    return f"o = np.stack([np.stack([{product} for h in range(l.shape[1])]) for b in range(B)])"


def _batched(form: Form) -> tuple[str, ...]:
    return (
        "l, r = (np.ascontiguousarray(v.transpose(0, 3, 1, 2)) for v in (l, r))",
        _batched_first(form),
        "o = o.transpose(0, 2, 3, 1)",
    )


def _batched_first(form: Form) -> str:
    return "o = l.transpose(0, 1, 3, 2) @ r" if form.incoming else "o = l @ r.transpose(0, 1, 3, 2)"


def _loops(form: Form) -> Passage:
    left, right = ("l[b, k, i, h]", "r[b, k, j, h]") if form.incoming else ("l[b, i, k, h]", "r[b, j, k, h]")
    lines: tuple[str, ...] = ("o = triangle(l, r)",)
    if form.layout.first:
        opened = "l, r = (v.transpose(0, 2, 1).reshape(B, N, N, -1) for v in (l, r))"
        lines = (opened, *lines, "o = o.reshape(B, N * N, -1).transpose(0, 2, 1)")
    return Passage(lines, LOOPS.format(left, right))


CONTRACTIONS: Mapping[str, Callable[[Form], Passage]] = {
    "einsum": _contraction(_sum, _sum_first),
    "optimized": _contraction(lambda f: _sum(f, ", optimize=True"), lambda f: _sum_first(f, ", optimize=True")),
    "rows": _contraction(_row_sums, _row_sums_first),
    "channels": _contraction(_by_channel, _by_channel_first),
    "loops": _loops,
    "batched": _contraction(_batched, _batched_first),
}

OUT_GATE = {
    "plain": "{} / (1 + np.exp(-g))",
    "stable": "{} * np.exp(-np.logaddexp(0, -g))",
    "tanh": "{} * (0.5 + 0.5 * np.tanh(0.5 * g))",
    "compiled": "gated({0}.ravel(), g.ravel()).reshape({0}.shape)",
    "in_place": "{} / g",
}


def _place(*, before: bool) -> Callable[[Form, str], Passage]:
    def passage(form: Form, gate: str) -> Passage:
        axis, column, first = form.layout
        gated = OUT_GATE[gate]
        lines = [
            f"o = o - o.mean({axis}, keepdims=True)",
            f"o = o / np.sqrt((o * o).mean({axis}, keepdims=True) + 1e-5)",
            f"o = o * d['out_norm_w']{column} + d['out_norm_b']{column}",
        ]
        if gate == "in_place":
            lines += [line.format("g") for line in IN_PLACE]
        lines += [f"o = {gated.format('o')}"] if before else []
        if first:
            lines.append("o = o.transpose(0, 2, 1)")
            gated = gated.replace("-g)", "-g.transpose(0, 2, 1))").replace("g.ravel", "g.transpose(0, 2, 1).ravel")
            gated = gated.replace("* g)", "* g.transpose(0, 2, 1))").replace("/ g", "/ g.transpose(0, 2, 1)")
        lines.append("o = o @ d['out'].T")
        lines += [] if before else [f"o = {gated.format('o')}"]
        lines.append("return o.reshape(B, N, N, C)")
        return Passage(tuple(lines))

    return passage


PLACES: Mapping[str, Callable[[Form, str], Passage]] = {"before": _place(before=True), "after": _place(before=False)}
