using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>One tensor of a loaded model. Immutable.</summary>
    public sealed class TensorInfo
    {
        internal TensorInfo(flexq_tensor_info native)
        {
            Name = Utf8.Name(native.name);
            WeightBits = native.weight_bits;
            ActivationBits = native.activation_bits;
            GroupSize = native.group_size;
            Rows = native.rows;
            Columns = native.cols;
        }

        /// <summary>As in the checkpoint: "model.layers.0.mlp.down_proj.weight".</summary>
        public string Name { get; }

        /// <summary>6, 8, 16 or 32.</summary>
        public int WeightBits { get; }

        /// <summary>6 or 8; 16: not quantized.</summary>
        public int ActivationBits { get; }

        /// <summary>128, or 0 where the tensor is not quantized.</summary>
        public int GroupSize { get; }

        /// <summary>Outputs of a linear layer; 1 for vectors.</summary>
        public long Rows { get; }

        /// <summary>Inputs.</summary>
        public long Columns { get; }
    }
}
