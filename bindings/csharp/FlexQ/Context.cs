using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>KV cache and workspace for one or many sequences. One thread at a time, with the
    /// generators on it: a call while another thread is inside throws InvalidState and changes
    /// nothing.</summary>
    public sealed class Context : IDisposable
    {
        internal Context(Model model, ContextOptions options)
        {
            using (NativeHandle.Lease modelLease = model.Handle.Acquire())
            using (NativeHandle optionsHandle = ContextOptions.ToNative(options))
            using (NativeHandle.Lease optionsLease = optionsHandle.Acquire())
            {
                Handle = new NativeHandle(nameof(Context),
                    (out IntPtr handle) => FlexqNative.flexq_context_create(
                        modelLease.Pointer, optionsLease.Pointer, out handle),
                    FlexqNative.flexq_context_release);
            }
        }

        /// <summary>The plan that the context was created by.</summary>
        public ModelPlan Plan
        {
            get
            {
                using (NativeHandle.Lease context = Handle.Acquire())
                using (var plan = new flexq_plan())
                {
                    FlexqNative.flexq_context_get_plan(context.Pointer, plan);
                    return new ModelPlan(plan);
                }
            }
        }

        /// <summary>What the context did and holds, at the time of the call.</summary>
        public ContextCounters Counters
        {
            get
            {
                using (NativeHandle.Lease context = Handle.Acquire())
                using (var counters = new flexq_context_counters())
                {
                    FlexqNative.flexq_context_get_counters(context.Pointer, counters);
                    return new ContextCounters(counters);
                }
            }
        }

        /// <summary>Rows that the last successful decode gave; 0 also while another thread is
        /// inside the context.</summary>
        public int OutputCount
        {
            get
            {
                using (NativeHandle.Lease context = Handle.Acquire())
                {
                    return FlexqNative.flexq_context_output_count(context.Pointer);
                }
            }
        }

        internal NativeHandle Handle { get; }

        /// <summary>An answer to be made on this context.</summary>
        /// <param name="options">Null: the defaults.</param>
        /// <returns>A generator to be disposed by the caller. It keeps the context's memory alive.
        /// </returns>
        /// <exception cref="FlexqException">What an option says.</exception>
        public Generator CreateGenerator(GeneratorOptions options = null)
        {
            return new Generator(this, options);
        }

        /// <summary>An engine that answers many requests at once, on as many sequences as the
        /// context has. It has the context to itself until it is disposed of: other calls on the
        /// context throw InvalidState.</summary>
        /// <param name="options">Null: the defaults.</param>
        /// <returns>An engine to be disposed by the caller. It keeps the context's memory alive.
        /// </returns>
        /// <exception cref="FlexqException">InvalidState (a sequence that is not empty, a context
        /// in use), UnsupportedValue (more step tokens than the context's chunk).</exception>
        public Engine CreateEngine(EngineOptions options = null)
        {
            return new Engine(this, options);
        }

        /// <summary>Computes a batch: its tokens go into the cache, the wanted rows of logits and
        /// hidden states become readable. On any error every sequence is as it was
        /// before.</summary>
        /// <param name="batch">Not emptied.</param>
        /// <exception cref="FlexqException">InvalidArgument (token or sequence out of range, too
        /// many output rows), ContextFull, Cancelled, NonFinite.</exception>
        public void Decode(Batch batch)
        {
            if (batch == null)
            {
                throw new ArgumentNullException(nameof(batch));
            }
            using (NativeHandle.Lease context = Handle.Acquire())
            using (NativeHandle.Lease tokens = batch.Handle.AcquireAlone())
            {
                FlexqNative.flexq_context_decode(context.Pointer, tokens.Pointer);
            }
        }

        /// <summary>Logits of an output row of the last decode.</summary>
        /// <param name="row">From 0.</param>
        /// <returns>A copy: one number for every token of the vocabulary.</returns>
        /// <exception cref="FlexqException">InvalidArgument, InvalidState.</exception>
        public float[] Logits(int row)
        {
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                IntPtr logits;
                int count;
                FlexqNative.flexq_context_logits(context.Pointer, row, out logits, out count);
                return Buffers.Floats(logits, count);
            }
        }

        /// <summary>Final hidden state of an output row, after the last norm: the model's embedding
        /// of the text so far.</summary>
        /// <param name="row">From 0.</param>
        /// <returns>A copy, as wide as the hidden state.</returns>
        /// <exception cref="FlexqException">InvalidArgument, InvalidState.</exception>
        public float[] Embedding(int row)
        {
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                IntPtr embedding;
                int count;
                FlexqNative.flexq_context_embedding(
                    context.Pointer, row, out embedding, out count);
                return Buffers.Floats(embedding, count);
            }
        }

        /// <summary>Tokens in the cache for a sequence.</summary>
        /// <param name="sequence">From 0.</param>
        /// <returns>-1 for a sequence that does not exist, and while another thread is inside the
        /// context.</returns>
        public int SequenceLength(int sequence)
        {
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                return FlexqNative.flexq_context_sequence_length(context.Pointer, sequence);
            }
        }

        /// <summary>Keeps the first tokens of a sequence and forgets the rest.</summary>
        /// <param name="sequence">From 0.</param>
        /// <param name="tokenCount">Tokens to keep; 0 empties the sequence.</param>
        /// <exception cref="FlexqException">InvalidArgument.</exception>
        public void Rewind(int sequence, int tokenCount)
        {
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                FlexqNative.flexq_context_rewind(context.Pointer, sequence, tokenCount);
            }
        }

        /// <summary>Makes one sequence a copy of another. Memory is shared until one of the two
        /// writes.</summary>
        /// <param name="from">Sequence to copy.</param>
        /// <param name="to">Sequence to replace.</param>
        /// <exception cref="FlexqException">InvalidArgument.</exception>
        public void Fork(int from, int to)
        {
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                FlexqNative.flexq_context_fork(context.Pointer, from, to);
            }
        }

        /// <summary>Saves a sequence, its tokens with their keys, values and note, to a file that
        /// only its owner can read. It appears under its name when complete; on any error what was
        /// there before is untouched.</summary>
        /// <param name="sequence">One that holds at least one token.</param>
        /// <param name="path">The file.</param>
        /// <exception cref="FlexqException">InvalidArgument, InvalidState (an empty sequence),
        /// UnsupportedModel (a checkpoint), NonFinite, Io, NoSpace, NotFound (the folder),
        /// OutOfMemory, DeviceLost.</exception>
        public void SaveSequence(int sequence, string path)
        {
            byte[] name = Utf8.Name(path, nameof(path));
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                FlexqNative.flexq_context_save_sequence(context.Pointer, sequence, name);
            }
        }

        /// <summary>The same as bytes: at most 2 GiB.</summary>
        /// <param name="sequence">One that holds at least one token.</param>
        /// <returns>The session.</returns>
        /// <exception cref="FlexqException">As to a file.</exception>
        public byte[] SaveSequence(int sequence)
        {
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                IntPtr pointer = context.Pointer;
                return Buffers.Bytes(0, (byte[] bytes, long capacity, out long length) =>
                    FlexqNative.flexq_context_save_sequence_to_memory(
                        pointer, sequence, bytes, capacity, out length));
            }
        }

        /// <summary>Restores a saved sequence, which then goes on as if it had never stopped. After
        /// any error the sequence is still empty.</summary>
        /// <param name="sequence">An empty one.</param>
        /// <param name="path">A session of this model.</param>
        /// <exception cref="FlexqException">InvalidArgument, InvalidState (a sequence that is not
        /// empty), NotFound, Io, Corrupt, LimitExceeded, NonFinite, UnsupportedVersion,
        /// UnsupportedModel (a session of another model, a checkpoint), UnsupportedValue (another
        /// KvType), ContextFull, OutOfMemory, DeviceLost.</exception>
        public void RestoreSequence(int sequence, string path)
        {
            byte[] name = Utf8.Name(path, nameof(path));
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                FlexqNative.flexq_context_restore_sequence(context.Pointer, sequence, name);
            }
        }

        /// <summary>The same from bytes.</summary>
        /// <param name="sequence">An empty one.</param>
        /// <param name="session">A session of this model.</param>
        /// <exception cref="FlexqException">As from a file.</exception>
        public void RestoreSequence(int sequence, byte[] session)
        {
            Buffers.NotNull(session, nameof(session));
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                FlexqNative.flexq_context_restore_sequence_from_memory(
                    context.Pointer, sequence, session, session.LongLength);
            }
        }

        /// <summary>The tokens in the cache for a sequence, oldest first: of an answer all but the
        /// last, with which the next prompt begins.</summary>
        /// <param name="sequence">From 0.</param>
        /// <returns>Their ids.</returns>
        /// <exception cref="FlexqException">InvalidArgument.</exception>
        public int[] SequenceTokens(int sequence)
        {
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                IntPtr pointer = context.Pointer;
                return Buffers.Tokens(256, (int[] tokens, int capacity, out int length) =>
                    FlexqNative.flexq_context_sequence_tokens(
                        pointer, sequence, tokens, capacity, out length));
            }
        }

        /// <summary>Bytes that are saved and restored with a sequence, otherwise kept until they
        /// are replaced.</summary>
        /// <param name="sequence">From 0.</param>
        /// <param name="note">At most 64 MiB.</param>
        /// <exception cref="FlexqException">InvalidArgument, LimitExceeded.</exception>
        public void SetSequenceNote(int sequence, byte[] note)
        {
            Buffers.NotNull(note, nameof(note));
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                FlexqNative.flexq_context_set_sequence_note(
                    context.Pointer, sequence, note, note.LongLength);
            }
        }

        /// <summary>The note of a sequence.</summary>
        /// <param name="sequence">From 0.</param>
        /// <returns>No bytes where none was set.</returns>
        /// <exception cref="FlexqException">InvalidArgument.</exception>
        public byte[] SequenceNote(int sequence)
        {
            using (NativeHandle.Lease context = Handle.Acquire())
            {
                IntPtr pointer = context.Pointer;
                return Buffers.Bytes(0, (byte[] bytes, long capacity, out long length) =>
                    FlexqNative.flexq_context_sequence_note(
                        pointer, sequence, bytes, capacity, out length));
            }
        }

        /// <summary>Scores a text under the model. Uses sequence 0, which must be empty and is
        /// empty afterwards.</summary>
        /// <param name="tokens">At most the context length.</param>
        /// <param name="progress">Counts tokens; may be null.</param>
        /// <returns>ln p(tokens[i + 1] | tokens[0 .. i]): one number less than tokens.</returns>
        /// <exception cref="FlexqException">InvalidArgument, InvalidState, Cancelled, NonFinite.
        /// </exception>
        public float[] Score(int[] tokens, ProgressCallback progress = null)
        {
            Buffers.NotNull(tokens, nameof(tokens));
            var logProbabilities = new float[Math.Max(tokens.Length - 1, 0)];
            using (NativeHandle.Lease context = Handle.Acquire())
            using (var callbacks = new Callbacks { Progress = progress })
            {
                IntPtr pointer = context.Pointer;
                callbacks.Call(() => FlexqNative.flexq_context_score(pointer, tokens,
                    tokens.Length, logProbabilities, callbacks.NativeProgress,
                    callbacks.UserData));
                return logProbabilities;
            }
        }

        /// <summary>Scores texts behind their contexts, many side by side. All sequences must be
        /// empty, and are empty afterwards.</summary>
        /// <param name="continuations">The texts.</param>
        /// <param name="progress">Counts tokens; may be null.</param>
        /// <returns>ln p(tokens | context) of every text, the sum over its tokens.</returns>
        /// <exception cref="FlexqException">InvalidArgument, InvalidState, ContextFull, Cancelled,
        /// NonFinite.</exception>
        public double[] ScoreContinuations(
            Continuations continuations, ProgressCallback progress = null)
        {
            if (continuations == null)
            {
                throw new ArgumentNullException(nameof(continuations));
            }
            using (NativeHandle.Lease context = Handle.Acquire())
            using (NativeHandle.Lease texts = continuations.Handle.AcquireAlone())
            using (var callbacks = new Callbacks { Progress = progress })
            {
                var scores = new double[continuations.Count];
                IntPtr pointer = context.Pointer;
                IntPtr textsPointer = texts.Pointer;
                callbacks.Call(() => FlexqNative.flexq_context_score_continuations(pointer,
                    textsPointer, scores, callbacks.NativeProgress, callbacks.UserData));
                return scores;
            }
        }

        /// <summary>Lets no new call in; a call that runs, generators and engines go on. Twice is
        /// once.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }
    }
}
