namespace FlexQ
{
    /// <summary>A token that could have been next.</summary>
    public struct TokenAlternative
    {
        internal TokenAlternative(int token, float logProbability)
        {
            Token = token;
            LogProbability = logProbability;
        }

        /// <summary>Token id.</summary>
        public int Token { get; }

        /// <summary>ln p under the untouched logits.</summary>
        public float LogProbability { get; }
    }
}
