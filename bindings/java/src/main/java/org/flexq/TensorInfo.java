package org.flexq;

import org.flexq.internal.FlexqNative;
import org.flexq.internal.TensorStruct;
import org.flexq.internal.Utf8;

/**
 * One tensor of a model.
 *
 * @param name as in the checkpoint: "model.layers.0.mlp.down_proj.weight"
 * @param rows outputs of a linear layer; 1 for vectors
 * @param cols inputs
 * @param weightBits 6, 8, 16 or 32
 * @param activationBits 6 or 8; 16: not quantized
 * @param groupSize 128, or 0 where the tensor is not quantized
 */
public record TensorInfo(
    String name, long rows, long cols, int weightBits, int activationBits, int groupSize) {

  static TensorInfo of(long model, int index) {
    try (TensorStruct info = new TensorStruct()) {
      FlexqNative.flexq_model_get_tensor_info(model, index, info);
      return new TensorInfo(
          Utf8.string(info.getName()),
          info.getRows(),
          info.getCols(),
          info.getWeight_bits(),
          info.getActivation_bits(),
          info.getGroup_size());
    }
  }
}
