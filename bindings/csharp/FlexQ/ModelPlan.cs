using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Memory that a model and one context take on one device. Exact for the library's
    /// pools; staging while loading and small host objects come on top (under 64 MiB).
    /// Immutable.</summary>
    public sealed class ModelPlan
    {
        internal ModelPlan(flexq_plan native)
        {
            Kind = (DeviceKind)native.kind;
            Device = Utf8.Name(native.device);
            WeightBytes = native.weight_bytes;
            KvBytes = native.kv_bytes;
            KvBytesPerToken = native.kv_bytes_per_token;
            WorkspaceBytes = native.workspace_bytes;
            TotalBytes = native.total_bytes;
            ContextTokens = native.context_tokens;
            Sequences = native.n_sequences;
            ChunkTokens = native.chunk_tokens;
            PageTokens = native.page_tokens;
        }

        /// <summary>Kind of the device.</summary>
        public DeviceKind Kind { get; }

        /// <summary>"cpu", "cuda:0".</summary>
        public string Device { get; }

        /// <summary>Weights.</summary>
        public long WeightBytes { get; }

        /// <summary>Page pool of the context.</summary>
        public long KvBytes { get; }

        /// <summary>Keys and values of one token.</summary>
        public long KvBytesPerToken { get; }

        /// <summary>Activations, logits, block tables.</summary>
        public long WorkspaceBytes { get; }

        /// <summary>All of it.</summary>
        public long TotalBytes { get; }

        /// <summary>Longest sequence, as resolved from the options.</summary>
        public int ContextTokens { get; }

        /// <summary>Sequences side by side.</summary>
        public int Sequences { get; }

        /// <summary>Tokens computed at once.</summary>
        public int ChunkTokens { get; }

        /// <summary>Tokens in a page of the KV cache.</summary>
        public int PageTokens { get; }
    }
}
