using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>A device this process can use. Immutable.</summary>
    public sealed class DeviceInfo
    {
        internal DeviceInfo(flexq_device_info native)
        {
            Kind = (DeviceKind)native.kind;
            Id = Utf8.Name(native.id);
            Name = Utf8.Name(native.name);
            Kernels = Utf8.Name(native.kernels);
            Threads = native.n_threads;
            TotalMemoryBytes = native.total_memory_bytes;
            FreeMemoryBytes = native.free_memory_bytes;
        }

        /// <summary>CPU or CUDA.</summary>
        public DeviceKind Kind { get; }

        /// <summary>What <see cref="ModelOptions.Device"/> takes: "cpu", "cuda:0".</summary>
        public string Id { get; }

        /// <summary>Name of the processor or card.</summary>
        public string Name { get; }

        /// <summary>Kernel set that "auto" chooses, for example "avx2".</summary>
        public string Kernels { get; }

        /// <summary>CPU: processors this process may use; else 0.</summary>
        public int Threads { get; }

        /// <summary>Physical memory of the device.</summary>
        public long TotalMemoryBytes { get; }

        /// <summary>Free at the time of the call.</summary>
        public long FreeMemoryBytes { get; }
    }
}
