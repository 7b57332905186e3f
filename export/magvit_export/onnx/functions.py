"""The definitions of our custom operators as model-local ONNX functions.

A file that holds these runs in every ONNX runtime with no operator library; a TensorRT plugin of
the same name, where there is one, is only the fast way to do the same.

GroupNorm's statistics are staged means, over width, then height, then the rest: a naive float32
sum over a clip's million positions is wrong by up to one per cent on flat backgrounds.
"""

from __future__ import annotations

from onnx import FunctionProto, parser

from magvit_export.onnx.operator_nodes import DOMAIN
from magvit_runtime.types import MAX_BITS

OPSET = 21
_POWERS = ", ".join(str(2**i) for i in range(MAX_BITS))

_LFQ = f"""
<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">
LFQ <plugin_namespace, plugin_version> (z) => (ids)
{{
    shape = Shape (z)
    batch = Shape <start = 0, end = 1> (z)
    sizes = Shape <start = 2> (z)
    channels = Shape <start = 1, end = 2> (z)

    flat_shape = Constant <value_ints = [0, 0, -1]> ()
    flat = Reshape (z, flat_shape)
    flat_float = Cast <to = 1> (flat)
    threshold = Constant <value_float = 0.0> ()
    bits = Greater (flat_float, threshold)

    all_weights = Constant <value = int32[{MAX_BITS}] {{{_POWERS}}}> ()
    first = Constant <value_ints = [0]> ()
    axis_1 = Constant <value_ints = [1]> ()
    weights_row = Slice (all_weights, first, channels)
    weights = Unsqueeze (weights_row, axis_1)
    no_weight = Constant <value = int32 {{0}}> ()
    weighted = Where (bits, weights, no_weight)
    flat_ids = ReduceSum <keepdims = 0> (weighted, axis_1)
    ids_shape = Concat <axis = 0> (batch, sizes)
    ids = Reshape (flat_ids, ids_shape)
}}
"""

# Division and remainder, since TensorRT has no bitwise operators.
_LFQ_CODES = f"""
<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">
LFQCodes <bits> (ids) => (codes)
{{
    batch = Shape <start = 0, end = 1> (ids)
    sizes = Shape <start = 1> (ids)
    bits_scalar = Constant <value_int: int = @bits> ()
    one = Constant <value_ints = [1]> ()
    channels = Reshape (bits_scalar, one)

    all_weights = Constant <value = int32[{MAX_BITS}] {{{_POWERS}}}> ()
    first = Constant <value_ints = [0]> ()
    weights_row = Slice (all_weights, first, channels)
    weights = Unsqueeze (weights_row, one)
    flat_shape = Constant <value_ints = [0, 1, -1]> ()
    flat_ids = Reshape (ids, flat_shape)
    shifted = Div (flat_ids, weights)
    two = Constant <value = int32 {{2}}> ()
    halved = Div (shifted, two)
    without_bit = Mul (halved, two)
    bits_of_ids = Sub (shifted, without_bit)
    bits_float = Cast <to = 1> (bits_of_ids)
    two_float = Constant <value_float = 2.0> ()
    one_float = Constant <value_float = 1.0> ()
    doubled = Mul (bits_float, two_float)
    flat = Sub (doubled, one_float)
    codes_shape = Concat <axis = 0> (batch, channels, sizes)
    codes = Reshape (flat, codes_shape)
}}
"""

_CODE_STATISTICS = f"""
<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">
CodeStatistics <epsilon> (codes) => (spread, mean)
{{
    flat_shape = Constant <value_ints = [0, 0, -1]> ()
    flat = Reshape (codes, flat_shape)
    positions_axis = Constant <value_ints = [2]> ()
    kept_mean = ReduceMean (flat, positions_axis)
    centered = Sub (flat, kept_mean)
    squares = Mul (centered, centered)
    sum_of_squares = ReduceSum <keepdims = 0> (squares, positions_axis)
    positions = Shape <start = 2> (flat)
    positions_float = Cast <to = 1> (positions)
    one = Constant <value_float = 1.0> ()
    one_less = Sub (positions_float, one)
    degrees_of_freedom = Max (one_less, one)
    variance = Div (sum_of_squares, degrees_of_freedom)
    epsilon_scalar = Constant <value_float: float = @epsilon> ()
    variance_kept_off_zero = Add (variance, epsilon_scalar)
    spread = Sqrt (variance_kept_off_zero)
    mean = Squeeze (kept_mean, positions_axis)
}}
"""

# Of the frames that one token becomes, the clip's first token gives only the first.
_CAUSAL_DEPTH_TO_SPACE = f"""
<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">
CausalDepthToSpace <block> (x) => (y)
{{
    keep = Constant <value_ints = [0]> ()
    infer = Constant <value_ints = [-1]> ()
    sizes = Shape <start = 2> (x)
    block = Constant <value_ints: ints = @block> ()
    split_shape = Concat <axis = 0> (keep, block, infer, sizes)
    split = Reshape (x, split_shape)
    woven = Transpose <perm = [0, 4, 5, 1, 6, 2, 7, 3]> (split)
    finer_sizes = Mul (sizes, block)
    finer_shape = Concat <axis = 0> (keep, infer, finer_sizes)
    finer = Reshape (woven, finer_shape)

    start = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    time_axis = Constant <value_ints = [2]> ()
    first_frame = Slice (finer, start, one, time_axis)
    frames_a_token = Slice (block, start, one, start)
    end = Slice (finer_sizes, start, one, start)
    other_frames = Slice (finer, frames_a_token, end, time_axis)
    y = Concat <axis = 2> (first_frame, other_frames)
}}
"""

# `weight` and `bias` are [C], or [N, C] where each clip has its own. The image and video forms
# differ only in `rest`: what lies between the channels and the height.
_GROUP_NORM = f"""
<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">
NAME <num_groups, epsilon, plugin_namespace, plugin_version> (x, weight, bias) => (y)
{{
    shape = Shape (x)
    channels = Shape <start = 1, end = 2> (x)
    height_and_width = Shape <start = -2> (x)
    groups_scalar = Constant <value_int: int = @num_groups> ()
    one = Constant <value_ints = [1]> ()
    groups = Reshape (groups_scalar, one)
    channels_a_group = Div (channels, groups)
    keep = Constant <value_ints = [0]> ()
    infer = Constant <value_ints = [-1]> ()

    x_float = Cast <to = 1> (x)
    grouped_shape = Concat <axis = 0> (keep, groups, infer, height_and_width)
    grouped = Reshape (x_float, grouped_shape)
    width_axis = Constant <value_ints = [4]> ()
    height_axis = Constant <value_ints = [3]> ()
    rest_axis = Constant <value_ints = [2]> ()
    mean_of_rows = ReduceMean (grouped, width_axis)
    mean_of_planes = ReduceMean (mean_of_rows, height_axis)
    mean = ReduceMean (mean_of_planes, rest_axis)
    centered = Sub (grouped, mean)
    squares = Mul (centered, centered)
    variance_of_rows = ReduceMean (squares, width_axis)
    variance_of_planes = ReduceMean (variance_of_rows, height_axis)
    variance = ReduceMean (variance_of_planes, rest_axis)
    epsilon_scalar = Constant <value_float: float = @epsilon> ()
    variance_kept_off_zero = Add (variance, epsilon_scalar)
    deviation = Sqrt (variance_kept_off_zero)

    deviation_shape = Concat <axis = 0> (keep, groups, one)
    deviation_of_groups = Reshape (deviation, deviation_shape)
    affine_shape = Concat <axis = 0> (infer, groups, channels_a_group)
    weight_of_groups = Reshape (weight, affine_shape)
    scale_of_groups = Div (weight_of_groups, deviation_of_groups)
    channel_shape = Concat <axis = 0> (infer, channels, one)
    scale = Reshape (scale_of_groups, channel_shape)
    shift = Reshape (bias, channel_shape)
    flat_shape = Concat <axis = 0> (keep, channels, infer)
    flat = Reshape (centered, flat_shape)
    scaled = Mul (flat, scale)
    normalized = Add (scaled, shift)
    ACTIVATION
    y_float = Reshape (activated, shape)
    y = CastLike (y_float, x)
}}
"""

_SILU = "gate = Sigmoid (normalized)\n    activated = Mul (normalized, gate)"


# The best two scores of each position and their rows go from tile to tile. TopK puts the lower
# index first where values are equal, and what was carried stands before the tile's: so of equal
# scores the lowest row wins. Where latents are NaN the id isn't defined. The latents go along,
# since OpenVINO's Scan takes no values from outside of its body.
_CODEBOOK_ARGMAX = f"""
<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">
CodebookArgmax <tile, plugin_namespace, plugin_version> (z, codebook) => (ids, margins)
{{
    batch = Shape <start = 0, end = 1> (z)
    sizes = Shape <start = 2> (z)
    channels = Shape <start = 1, end = 2> (z)
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    infer = Constant <value_ints = [-1]> ()
    tile_scalar = Constant <value_int: int = @tile> ()
    tile_rows = Reshape (tile_scalar, one)

    flat_shape = Constant <value_ints = [0, 0, -1]> ()
    z_flat = Reshape (z, flat_shape)
    z_float = Cast <to = 1> (z_flat)
    z_rows = Transpose <perm = [0, 2, 1]> (z_float)
    latents_shape = Concat <axis = 0> (infer, channels)
    latents = Reshape (z_rows, latents_shape)
    tiles_shape = Concat <axis = 0> (infer, tile_rows, channels)
    tiles = Reshape (codebook, tiles_shape)

    positions = Shape <start = 0, end = 1> (latents)
    pairs = Concat <axis = 0> (positions, two)
    lowest = Constant <value = float {{-inf}}> ()
    no_scores = Expand (lowest, pairs)
    row_0 = Constant <value_ints = [0]> ()
    no_rows = Expand (row_0, pairs)
    best, best_rows, end, searched = Scan <
        num_scan_inputs = 1,
        body = one_tile (
            float[P, 2] carried,
            int64[P, 2] carried_rows,
            int64[1] start,
            float[P, C] searching,
            float[T, C] rows
        ) => (
            float[P, 2] chosen, int64[P, 2] chosen_rows, int64[1] next, float[P, C] searched_on
        )
        {{
            scores = Gemm <transB = 1> (searching, rows)
            pair = Constant <value_ints = [2]> ()
            row_count = Shape <start = 0, end = 1> (rows)
            taken = Min (pair, row_count)
            found, places = TopK (scores, taken)
            found_rows = Add (places, start)
            values = Concat <axis = 1> (carried, found)
            value_rows = Concat <axis = 1> (carried_rows, found_rows)
            chosen, chosen_places = TopK (values, pair)
            chosen_rows = GatherElements <axis = 1> (value_rows, chosen_places)
            next = Add (start, row_count)
            searched_on = Identity (searching)
        }}
    > (no_scores, no_rows, row_0, latents, tiles)

    ids_shape = Concat <axis = 0> (batch, sizes)
    first_row, second_row = Split <axis = 1, num_outputs = 2> (best_rows)
    first_id = Cast <to = 6> (first_row)
    ids = Reshape (first_id, ids_shape)
    first, second = Split <axis = 1, num_outputs = 2> (best)
    margin = Sub (first, second)
    margins = Reshape (margin, ids_shape)
}}
"""

# In float32 whatever the type of its inputs. No plugin: TensorRT has kernels of its own for this.
_SPATIAL_ATTENTION = f"""
<opset_import: ["" : {OPSET}], domain: "{DOMAIN}">
SpatialAttention (q, k, v) => (y)
{{
    flat_shape = Constant <value_ints = [0, 0, -1]> ()
    q_flat = Reshape (q, flat_shape)
    k_flat = Reshape (k, flat_shape)
    v_flat = Reshape (v, flat_shape)
    queries = Cast <to = 1> (q_flat)
    keys = Cast <to = 1> (k_flat)
    values = Cast <to = 1> (v_flat)

    channels = Shape <start = 1, end = 2> (q)
    channels_float = Cast <to = 1> (channels)
    root = Sqrt (channels_float)
    query_rows = Transpose <perm = [0, 2, 1]> (queries)
    products = MatMul (query_rows, keys)
    scores = Div (products, root)
    weights = Softmax <axis = -1> (scores)
    value_rows = Transpose <perm = [0, 2, 1]> (values)
    mixed_rows = MatMul (weights, value_rows)
    mixed = Transpose <perm = [0, 2, 1]> (mixed_rows)
    shape = Shape (v)
    y_float = Reshape (mixed, shape)
    y = CastLike (y_float, v)
}}
"""


def lfq_function() -> FunctionProto:
    """`magvit::LFQ`: z [N, C, ...] -> int32 ids [N, ...]; bit i is z[:, i] > 0, 0 the lowest."""
    return parser.parse_function(_LFQ)


def group_norm_function() -> FunctionProto:
    """`magvit::GroupNorm`: x [N, C, (T,) H, W], weight and bias [C] or [N, C] -> the shape of x."""
    text = _GROUP_NORM.replace("NAME", "GroupNorm").replace("ACTIVATION\n", "")
    return parser.parse_function(text.replace("activated", "normalized"))


def group_norm_silu_function() -> FunctionProto:
    """`magvit::GroupNormSiLU`: as `magvit::GroupNorm`, then y = v·sigmoid(v)."""
    text = _GROUP_NORM.replace("NAME", "GroupNormSiLU").replace("ACTIVATION", _SILU)
    return parser.parse_function(text)


def lfq_codes_function() -> FunctionProto:
    """`magvit::LFQCodes`: ids [N, ...] -> codes [N, bits, ...]: 2·bit - 1, 0 the lowest bit."""
    return _with_named_nodes(parser.parse_function(_LFQ_CODES))


def code_statistics_function() -> FunctionProto:
    """`magvit::CodeStatistics`: of each clip's channel √(variance + ε), unbiased, and mean.

    The variance of a single position is 0.
    """
    return _with_named_nodes(parser.parse_function(_CODE_STATISTICS))


def causal_depth_to_space_function() -> FunctionProto:
    """`magvit::CausalDepthToSpace`: [N, prod(block)·C, t, h, w] -> [N, C, (t-1)·bt+1, h·bh, w·bw].

    Channels are laid out (*block, C). Of the first token's frames only the first is kept.
    """
    return _with_named_nodes(parser.parse_function(_CAUSAL_DEPTH_TO_SPACE))


def codebook_argmax_function() -> FunctionProto:
    """`magvit::CodebookArgmax`: the row that fits each position best, and by how much.

    z [N, C, ...] and codebook [rows, C], rows a multiple of `tile` -> int32 ids and float32
    margins [N, ...]: the row with the largest dot product (of equal ones the lowest), and that
    product less the second largest. Products are float32; they are held for `tile` rows at once.
    """
    return parser.parse_function(_CODEBOOK_ARGMAX)


def spatial_attention_function() -> FunctionProto:
    """`magvit::SpatialAttention`: q, k, v [N, C, H, W] -> v, mixed by softmax(qᵀk / √C)."""
    return _with_named_nodes(parser.parse_function(_SPATIAL_ATTENTION))


def _with_named_nodes(function: FunctionProto) -> FunctionProto:
    """A function that no plugin computes.

    TensorRT names layers after its nodes; `magvit build` takes layers of nodes without a name for
    those of a plugin that it wants and that wasn't found.
    """
    for node in function.node:
        node.name = node.output[0]
    return function


FUNCTIONS = {
    "CodebookArgmax": codebook_argmax_function,
    "LFQ": lfq_function,
    "LFQCodes": lfq_codes_function,
    "CodeStatistics": code_statistics_function,
    "CausalDepthToSpace": causal_depth_to_space_function,
    "GroupNorm": group_norm_function,
    "GroupNormSiLU": group_norm_silu_function,
    "SpatialAttention": spatial_attention_function,
}
