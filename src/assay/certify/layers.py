"""The registry of supported operators: how each is translated, by PyTorch's name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

import assay.certify.affine_layers as affine
import assay.certify.bent_layers as bent
import assay.certify.shape_layers as shapes
from assay.certify.draft import Call, Value

aten = torch.ops.aten
LAYERS: Mapping[str, Callable[[Call], Value]] = MappingProxyType(
    {
        "aten.conv2d.default": affine.conv2d,
        "aten.conv2d.padding": affine.conv2d,
        "aten.linear.default": affine.linear,
        "aten.addmm.default": affine.addmm,
        "aten.mm.default": affine.matmul,
        "aten.matmul.default": affine.matmul,
        "aten._native_batch_norm_legit_no_training.default": affine.batch_norm,
        "aten.batch_norm.default": affine.batch_norm_training,
        "aten.relu.default": bent.relu,
        "aten.leaky_relu.default": bent.leaky_relu,
        "aten.prelu.default": bent.prelu,
        "aten._prelu_kernel.default": bent.prelu,
        "aten.clamp.default": bent.clamp,
        "aten.clamp_min.default": bent.clamp,
        "aten.clamp_max.default": lambda call: bent.between(call, call.arguments[0], None, call.arguments[1]),
        "aten.hardtanh.default": bent.hardtanh,
        "aten.relu6.default": bent.relu6,
        "aten.abs.default": bent.abs_of,
        "aten.maximum.default": bent.maximum,
        "aten.max_pool2d.default": bent.max_pool2d,
        "aten.max_pool2d_with_indices.default": bent.max_pool2d,
        "aten.avg_pool2d.default": shapes.avg_pool2d,
        "aten.adaptive_avg_pool2d.default": shapes.averages(aten.adaptive_avg_pool2d.default, shapes.adaptive_terms),
        "aten._adaptive_avg_pool2d.default": shapes.averages(aten.adaptive_avg_pool2d.default, shapes.adaptive_terms),
        "aten.mean.dim": shapes.mean_of,
        "aten.sum.dim_IntList": shapes.sum_of,
        "aten.add.Tensor": affine.add,
        "aten.add.Scalar": affine.add,
        "aten.sub.Tensor": lambda call: affine.add(call, -1.0),
        "aten.sub.Scalar": lambda call: affine.add(call, -1.0),
        "aten.rsub.Scalar": affine.rsub,
        "aten.mul.Tensor": affine.mul,
        "aten.mul.Scalar": affine.mul,
        "aten.div.Tensor": affine.div,
        "aten.div.Scalar": affine.div,
        "aten.neg.default": affine.neg,
        "aten.cat.default": shapes.cat,
        "aten.flatten.using_ints": shapes.reshape,
        "aten.view.default": shapes.reshape,
        "aten.reshape.default": shapes.reshape,
        "aten._unsafe_view.default": shapes.reshape,
        "aten.squeeze.dim": shapes.reshape,
        "aten.squeeze.dims": shapes.reshape,
        "aten.unsqueeze.default": shapes.reshape,
        "aten.unflatten.int": shapes.reshape,
        "aten.permute.default": shapes.chosen(aten.permute.default),
        "aten.transpose.int": shapes.chosen(aten.transpose.int),
        "aten.slice.Tensor": shapes.chosen(aten.slice.Tensor),
        "aten.select.int": shapes.chosen(aten.select.int),
        "aten.expand.default": lambda call: affine.expanded(call, call.arguments[0]),
        "aten.pad.default": shapes.pad_in_any_mode,
        "aten.constant_pad_nd.default": shapes.pad,
        "aten.upsample_nearest2d.vec": shapes.averages(aten.upsample_nearest2d.vec, lambda call: 0),
        "aten.upsample_bilinear2d.vec": shapes.averages(aten.upsample_bilinear2d.vec, lambda call: 12),
        "aten.dropout.default": shapes.dropout,
        "aten.feature_dropout.default": shapes.dropout,
        "aten.clone.default": shapes.same,
        "aten.contiguous.default": shapes.same,
        "aten.detach.default": shapes.same,
        "aten.alias.default": shapes.same,
        "aten.lift_fresh_copy.default": shapes.same,
        "aten.to.dtype": shapes.as_type,
        "aten._to_copy.default": shapes.as_type,
    }
)
"""Layers by the names of PyTorch's operators."""
