"""What our custom operators compute, as model-local ONNX functions.

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
    return parser.parse_function(_LFQ_CODES)


def code_statistics_function() -> FunctionProto:
    """`magvit::CodeStatistics`: of each clip's channel √(variance + ε), unbiased, and mean.

    The variance of a single position is 0.
    """
    return parser.parse_function(_CODE_STATISTICS)


def causal_depth_to_space_function() -> FunctionProto:
    """`magvit::CausalDepthToSpace`: [N, prod(block)·C, t, h, w] -> [N, C, (t-1)·bt+1, h·bh, w·bw].

    Channels are laid out (*block, C). Of the first token's frames only the first is kept.
    """
    return parser.parse_function(_CAUSAL_DEPTH_TO_SPACE)


FUNCTIONS = {
    "LFQ": lfq_function,
    "LFQCodes": lfq_codes_function,
    "CodeStatistics": code_statistics_function,
    "CausalDepthToSpace": causal_depth_to_space_function,
    "GroupNorm": group_norm_function,
    "GroupNormSiLU": group_norm_silu_function,
}
