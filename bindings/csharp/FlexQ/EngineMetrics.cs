using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>What an engine has done since it was created, and what it is doing. Immutable.
    /// </summary>
    public sealed class EngineMetrics
    {
        internal EngineMetrics(flexq_engine_metrics native)
        {
            Waiting = native.n_waiting;
            Running = native.n_running;
            PagesTotal = native.pages_total;
            PagesUsed = native.pages_used;
            PagesCached = native.pages_cached;
            Submitted = native.n_submitted;
            Finished = native.n_finished;
            Cancelled = native.n_cancelled;
            DeadlinesExceeded = native.n_deadline;
            Failed = native.n_failed;
            Refused = native.n_refused;
            Preemptions = native.n_preemptions;
            PromptTokens = native.prompt_tokens;
            ReusedTokens = native.reused_tokens;
            ComputedTokens = native.computed_tokens;
            GeneratedTokens = native.generated_tokens;
            Steps = native.n_steps;
            StepNanoseconds = native.step_ns;
        }

        /// <summary>Requests without a place.</summary>
        public int Waiting { get; }

        /// <summary>Requests with one.</summary>
        public int Running { get; }

        /// <summary>Pages of the KV cache.</summary>
        public int PagesTotal { get; }

        /// <summary>Pages that requests use.</summary>
        public int PagesUsed { get; }

        /// <summary>Pages that nobody uses, kept for other requests.</summary>
        public int PagesCached { get; }

        /// <summary>Requests that were accepted.</summary>
        public long Submitted { get; }

        /// <summary>Requests that ended by an end token, a stop string, or the length.</summary>
        public long Finished { get; }

        /// <summary>Requests that were cancelled.</summary>
        public long Cancelled { get; }

        /// <summary>Requests whose deadline passed.</summary>
        public long DeadlinesExceeded { get; }

        /// <summary>Requests that failed.</summary>
        public long Failed { get; }

        /// <summary>Requests that were not accepted: <see cref="ErrorCode.QueueFull"/>.</summary>
        public long Refused { get; }

        /// <summary>How often a request's pages were given up and computed again.</summary>
        public long Preemptions { get; }

        /// <summary>Prompt tokens of requests that had a place.</summary>
        public long PromptTokens { get; }

        /// <summary>Of these, taken over from other requests.</summary>
        public long ReusedTokens { get; }

        /// <summary>Tokens that went through the model, recomputed ones included.</summary>
        public long ComputedTokens { get; }

        /// <summary>Tokens of all answers.</summary>
        public long GeneratedTokens { get; }

        /// <summary>Steps.</summary>
        public long Steps { get; }

        /// <summary>Time in steps.</summary>
        public long StepNanoseconds { get; }
    }
}
