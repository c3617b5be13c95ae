using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>What a loaded model is. Immutable.</summary>
    public sealed class ModelInfo
    {
        internal ModelInfo(flexq_model_info native)
        {
            Layers = native.n_layers;
            EmbeddingSize = native.n_embd;
            Heads = native.n_heads;
            KvHeads = native.n_kv_heads;
            HeadSize = native.head_dim;
            FeedForwardSize = native.n_ff;
            VocabularySize = native.n_vocab;
            ContextTokens = native.context_tokens;
            BosTokenId = native.bos_token_id;
            Threads = native.n_threads;
            ParameterCount = native.n_parameters;
            WeightBytes = native.weight_bytes;
            DecodeWeightBytes = native.decode_weight_bytes;
            BitsPerWeight = native.bits_per_weight;
            Policy = Utf8.Name(native.policy);
            Device = Utf8.Name(native.device);
            Kernels = Utf8.Name(native.kernels);
        }

        /// <summary>Transformer layers.</summary>
        public int Layers { get; }

        /// <summary>Width of the hidden state.</summary>
        public int EmbeddingSize { get; }

        /// <summary>Query heads.</summary>
        public int Heads { get; }

        /// <summary>Key and value heads.</summary>
        public int KvHeads { get; }

        /// <summary>Width of a head.</summary>
        public int HeadSize { get; }

        /// <summary>Width of the feed-forward layer.</summary>
        public int FeedForwardSize { get; }

        /// <summary>Tokens, and so logits in a row.</summary>
        public int VocabularySize { get; }

        /// <summary>Longest text the model was trained for.</summary>
        public int ContextTokens { get; }

        /// <summary>-1: none.</summary>
        public int BosTokenId { get; }

        /// <summary>Threads of this model's pool.</summary>
        public int Threads { get; }

        /// <summary>Weights.</summary>
        public long ParameterCount { get; }

        /// <summary>Device memory that the weights take.</summary>
        public long WeightBytes { get; }

        /// <summary>Weights read to decode one token: all but the embedding.</summary>
        public long DecodeWeightBytes { get; }

        /// <summary>Of the quantized linear layers in device memory, scales included; 16 or 32
        /// where nothing is quantized.</summary>
        public double BitsPerWeight { get; }

        /// <summary>"flexq", "w6a6", ..., "none" for a checkpoint.</summary>
        public string Policy { get; }

        /// <summary>"cpu", "cuda:0".</summary>
        public string Device { get; }

        /// <summary>The kernel set in use: "avx512vnni", "int8".</summary>
        public string Kernels { get; }
    }
}
