using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Kind of a device.</summary>
    public enum DeviceKind
    {
        /// <summary>The processors of this machine.</summary>
        Cpu = FlexqNative.FLEXQ_DEVICE_CPU,

        /// <summary>An NVIDIA GPU.</summary>
        Cuda = FlexqNative.FLEXQ_DEVICE_CUDA,
    }
}
