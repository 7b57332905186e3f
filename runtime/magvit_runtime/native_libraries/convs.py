"""The native backend's operators of libmagvit_operators.so: their C structures and signatures.

kernels/include/magvit/operators.h says what each is.
"""

from __future__ import annotations

import ctypes
from functools import cache

from magvit_runtime.native_libraries.operators import load_operators


class FeatureMapStructure(ctypes.Structure):
    """`struct magvit_feature_map`."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("frames", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("channel_pitch", ctypes.c_int64),
        ("first_frames", ctypes.c_void_p),
        ("background", ctypes.c_void_p),
        ("background_height", ctypes.c_int64),
        ("background_width", ctypes.c_int64),
    )


class NormalizationStructure(ctypes.Structure):
    """`struct magvit_normalization`."""

    _fields_ = (
        ("mean", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("activation", ctypes.c_int),
    )


class ConvOptions(ctypes.Structure):
    """`struct magvit_conv_options`."""

    _fields_ = (
        ("in_channels", ctypes.c_int64),
        ("out_channels", ctypes.c_int64),
        ("kernel", ctypes.c_int64 * 3),
        ("stride", ctypes.c_int64 * 3),
        ("pads_before", ctypes.c_int64 * 3),
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


class ConvCall(ctypes.Structure):
    """`struct magvit_conv_call`."""

    _fields_ = (
        ("input", ctypes.c_void_p),
        ("normalization", ctypes.c_void_p),
        ("residual", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("background_counts", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("moments", ctypes.c_void_p),
    )


class AdaptiveNormCall(ctypes.Structure):
    """`struct magvit_adaptive_norm_call`."""

    _fields_ = (
        ("map", ctypes.c_void_p),
        ("groups", ctypes.c_int64),
        ("epsilon", ctypes.c_double),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("moments", ctypes.c_void_p),
    )


@cache
def load_convs() -> ctypes.CDLL:
    """The library of the CPU operators, with the signatures of its convs.

    Raises:
        BackendError: It is missing or of another version.
    """
    library = load_operators()
    pointer = ctypes.c_void_p
    library.magvit_pool_create.argtypes = (ctypes.c_int32,)
    library.magvit_pool_create.restype = pointer
    library.magvit_pool_threads.argtypes = (pointer,)
    library.magvit_pool_destroy.argtypes = (pointer,)
    library.magvit_pool_destroy.restype = None
    library.magvit_conv_create.argtypes = (
        ctypes.POINTER(ConvOptions),
        pointer,
        ctypes.POINTER(pointer),
    )
    library.magvit_conv_destroy.argtypes = (pointer,)
    library.magvit_conv_destroy.restype = None
    library.magvit_conv_run.argtypes = (pointer, ctypes.POINTER(ConvCall), pointer)
    library.magvit_adaptive_norm_run.argtypes = (ctypes.POINTER(AdaptiveNormCall), pointer)
    library.magvit_depth_to_space_run.argtypes = (
        pointer,
        ctypes.POINTER(ctypes.c_int64),
        pointer,
        pointer,
    )
    library.magvit_attention_run.argtypes = (
        *[ctypes.POINTER(FeatureMapStructure)] * 4,
        pointer,
    )
    library.magvit_instruction_set.restype = ctypes.c_char_p
    return library
