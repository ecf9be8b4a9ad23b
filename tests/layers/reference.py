"""The layers' formulas as loops over single numbers in float64, written from the papers and nothing else."""

import math

import numpy as np


def linear(value):
    return value


def split(x, num_subspaces):
    """Field matrix (F, K) -> (F h, K / h): row b F + f is block b of field f."""
    fields, width = x.shape
    columns = width // num_subspaces
    rows = np.zeros((fields * num_subspaces, columns))
    for block in range(num_subspaces):
        for field in range(fields):
            for column in range(columns):
                rows[block * fields + field, column] = x[field, block * columns + column]
    return rows


def join(rows, num_subspaces):
    """The inverse of `split`."""
    fields, columns = rows.shape[0] // num_subspaces, rows.shape[1]
    x = np.zeros((fields, columns * num_subspaces))
    for block in range(num_subspaces):
        for field in range(fields):
            for column in range(columns):
                x[field, block * columns + column] = rows[block * fields + field, column]
    return x


def pin(x, kernels, num_subspaces=1, activation=linear, residual=True):
    """X_l[i, k] = X_{l-1}[i, k] (a(sum_j W_l[i, j] X_0[j, k]) + 1) for each example of (B, F, K)."""
    return np.array([_pin_of_one(example, kernels, num_subspaces, activation, residual) for example in x])


def _pin_of_one(x, kernels, num_subspaces, activation, residual):
    first = split(x, num_subspaces)
    outputs = [first]
    for kernel in kernels:
        previous, following = outputs[-1], np.zeros_like(first)
        for i in range(first.shape[0]):
            for k in range(first.shape[1]):
                gate = activation(sum(kernel[i, j] * first[j, k] for j in range(first.shape[0])))
                following[i, k] = previous[i, k] * (gate + 1.0 if residual else gate)
        outputs.append(following)
    if residual:
        return join(outputs[-1], num_subspaces)
    return np.concatenate([join(output, num_subspaces) for output in outputs], axis=0)


def field_linear_head(x, weights, bias):
    """sum_k (sum_f w_f X[f, k] + b), (B, 1)."""
    batch, fields, width = x.shape
    logits = np.zeros((batch, 1))
    for b in range(batch):
        for k in range(width):
            logits[b, 0] += sum(weights[f] * x[b, f, k] for f in range(fields)) + bias
    return logits


def mlp(x, layers, activation):
    """(W, b) pairs, one after the other, on (B, n)."""
    for kernel, bias in layers:
        out = np.zeros((x.shape[0], kernel.shape[1]))
        for b in range(x.shape[0]):
            for j in range(kernel.shape[1]):
                out[b, j] = activation(sum(x[b, i] * kernel[i, j] for i in range(kernel.shape[0])) + bias[j])
        x = out
    return x


def project(x, kernel):
    """(F, K) times (K, P)."""
    out = np.zeros((x.shape[0], kernel.shape[1]))
    for f in range(x.shape[0]):
        for p in range(kernel.shape[1]):
            out[f, p] = sum(x[f, k] * kernel[k, p] for k in range(x.shape[1]))
    return out


def pool(table, ids, weights, combiner):
    """Rows of a table, one per id > 0, made one by mean, sum, sqrtn or max; zeros where no id is > 0."""
    width = table.shape[1]
    valid = [(i, w) for i, w in zip(ids, weights, strict=True) if i > 0]
    if not valid:
        return np.zeros(width)
    pooled = np.zeros(width)
    for k in range(width):
        values = [w * table[i, k] for i, w in valid]
        if combiner == "max":
            pooled[k] = max(values)
            continue
        divisor = {
            "sum": 1.0,
            "mean": sum(w for _, w in valid),
            "sqrtn": math.sqrt(sum(w * w for _, w in valid)),
        }[combiner]
        pooled[k] = sum(values) / divisor if divisor else 0.0
    return pooled


def field_matrix(schema, features, tables, width, numeric=None, projections=None):
    """(B, F, K) of a schema's features, row after row.

    `tables` holds one array of num_ids rows for each table name, whose row 0 is never read; `numeric` a vector for each
    plain number; `projections` a matrix for each vector feature and each foreign table width.
    """
    batch = len(next(iter(features.values())))
    return np.array(
        [
            np.concatenate([_rows(f, features, b, tables, width, numeric, projections) for f in schema.inputs])
            for b in range(batch)
        ]
    ).reshape(batch, schema.num_fields, width)


def _rows(feature, features, b, tables, width, numeric, projections):
    values = np.asarray(features[feature.name][b], np.float64).reshape(-1)
    if feature.kind == "vector":
        return project(values[np.newaxis], projections[feature.name])
    if not feature.is_ids:
        return values[0] * np.array(numeric[feature.name])[np.newaxis]
    ids = [int(value) for value in values]
    weights = [1.0] * len(ids)
    if feature.weights_name:
        weights = [float(w) for w in features[feature.weights_name][b]]
    table = tables[feature.table_name]
    if feature.combiner == "concat":
        rows = np.array([w * table[i] if i > 0 else 0 * table[i] for i, w in zip(ids, weights, strict=True)])
    else:
        rows = pool(table, ids, weights, feature.combiner)[np.newaxis]
    return rows if table.shape[1] == width else project(rows, projections[table.shape[1]])


def compressed_interaction(x_l, x_0, kernel):
    """X_{l+1}[o, k] = sum_ij W[o, i, j] X_l[i, k] X_0[j, k] of one example: equation 6 of the xDeepFM paper."""
    out = np.zeros((len(kernel), x_0.shape[1]))
    for o in range(len(kernel)):
        for k in range(x_0.shape[1]):
            for i in range(len(x_l)):
                out[o, k] += sum(kernel[o, i, j] * x_l[i, k] * x_0[j, k] for j in range(len(x_0)))
    return out


def cin(x, kernels, split_half=False, activation=linear):
    """The row sums of all layers, (B, sum of rows): equations 6 to 8; the halves as in the authors' code."""
    return np.array([_cin_of_one(example, kernels, split_half, activation) for example in x])


def _cin_of_one(x, kernels, split_half, activation):
    last, sums = x, []
    for number, kernel in enumerate(kernels, start=1):
        mapped = np.vectorize(activation)(compressed_interaction(last, x, kernel))
        half = len(mapped) // 2 if split_half and number < len(kernels) else 0
        last = mapped[:half] if half else mapped
        sums += [sum(row) for row in mapped[half:]]
    return np.array(sums)


def inner_products(x, self_products=False):
    """<v_i, v_j>, i < j, then <v_i, v_i>, of each example."""
    pairs = [(i, j) for i in range(x.shape[1]) for j in range(i + 1, x.shape[1])]
    pairs += [(i, i) for i in range(x.shape[1])] if self_products else []
    return np.array([[sum(rows[i, k] * rows[j, k] for k in range(x.shape[2])) for i, j in pairs] for rows in x])


def superposition(x):
    """sum_ij v_i v_j^T of each example, pair by pair: §III-B of the PNN paper; (B, K K)."""
    batch, fields, width = x.shape
    out = np.zeros((batch, width, width))
    for b in range(batch):
        for i in range(fields):
            for j in range(fields):
                for k in range(width):
                    for l in range(width):
                        out[b, k, l] += x[b, i, k] * x[b, j, l]
    return out.reshape(batch, -1)


def kernel_products(x, kernel, kind):
    """sum_kl W_p[k, l] v_ik v_jl of each pair p = (i, j), i < j; W_p diagonal for a vector or a number."""
    batch, fields, width = x.shape
    full = [
        {"matrix": lambda w: w, "vector": np.diagflat, "number": lambda w: w * np.eye(width)}[kind](w) for w in kernel
    ]
    out = [[] for _ in range(batch)]
    for b in range(batch):
        matrices = iter(full)
        for i in range(fields):
            for j in range(i + 1, fields):
                w = next(matrices)
                terms = (w[k, l] * x[b, i, k] * x[b, j, l] for k in range(width) for l in range(width))
                out[b].append(sum(terms))
    return np.array(out)


def senet(x, squeeze, excite, activation):
    """Row f times a_f, a = s(s(z W_1) W_2), z_f = the mean of row f: §3.3 of the FiBiNET paper."""
    means = np.array([[sum(row) / len(row) for row in rows] for rows in x])
    weights = mlp(means, [(squeeze, np.zeros(squeeze.shape[1])), (excite, np.zeros(excite.shape[1]))], activation)
    return np.array([[[weights[b, f] * v for v in row] for f, row in enumerate(rows)] for b, rows in enumerate(x)])


def bilinear(x, kernel, kind):
    """(v_i W) * v_j of the pairs i < j, (B, F (F - 1) / 2, K): §3.4 of the FiBiNET paper."""
    batch, fields, width = x.shape
    out = [[] for _ in range(batch)]
    for b in range(batch):
        for i in range(fields):
            for j in range(i + 1, fields):
                number = {"field_all": 0, "field_each": i, "field_interaction": len(out[b])}[kind]
                mapped = [sum(x[b, i, k] * kernel[number, k, l] for k in range(width)) for l in range(width)]
                out[b].append([mapped[l] * x[b, j, l] for l in range(width)])
    return np.array(out)


def interacting(x, weights, num_heads, scaled=False):
    """Equations 5 to 8 of the AutoInt paper; `weights` = query, key, value[, residual]."""
    query, key, value, *residual = weights
    size = query.shape[1] // num_heads
    out = np.zeros((*x.shape[:2], query.shape[1]))
    for b, rows in enumerate(x):
        q, k, v = project(rows, query), project(rows, key), project(rows, value)
        for head in range(num_heads):
            columns = range(head * size, (head + 1) * size)
            for m in range(len(rows)):
                scores = [sum(q[m, c] * k[n, c] for c in columns) for n in range(len(rows))]
                powers = [math.exp(score / math.sqrt(size) if scaled else score) for score in scores]
                for c in columns:
                    out[b, m, c] = sum(p * v[n, c] for n, p in enumerate(powers)) / sum(powers)
        if residual:
            out[b] += project(rows, residual[0])
    return np.maximum(out, 0.0)


def residual_units(x, units, activation):
    """a(x + a(x W_0 + b_0) W_1 + b_1), unit after unit; `units` = (W_0, b_0, W_1, b_1) each."""
    for inner, inner_bias, outer, outer_bias in units:
        hidden = mlp(x, [(inner, inner_bias)], activation)
        x = np.vectorize(activation)(x + mlp(hidden, [(outer, outer_bias)], linear))
    return x
