using System;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace FlexQ.Internal
{
    /// <summary>The callbacks of one native call. C gets static functions, which live as long as
    /// the process, and as user_data a handle of this object. No exception crosses a native frame:
    /// one that a callback throws is kept, C is told to stop, and Call throws it to the caller.
    /// </summary>
    internal sealed class Callbacks : IDisposable
    {
        private static readonly flexq_progress_callback s_progress = OnProgress;
        private static readonly flexq_token_callback s_token = OnToken;
        private static readonly flexq_window_callback s_window = OnWindow;
        private static readonly flexq_question_callback s_question = OnQuestion;

        private readonly CancellationToken _cancellation;
        private GCHandle _self;
        private ExceptionDispatchInfo _thrown;

        internal Callbacks(CancellationToken cancellation = default(CancellationToken))
        {
            _cancellation = cancellation;
            _self = GCHandle.Alloc(this);
        }

        internal ProgressCallback Progress { get; set; }

        internal Func<TokenEvent, bool> Token { get; set; }

        internal WindowCallback Window { get; set; }

        internal Func<QuestionResult, bool> Question { get; set; }

        internal IntPtr UserData
        {
            get { return GCHandle.ToIntPtr(_self); }
        }

        /// <summary>What to give to C: null where nobody listens.</summary>
        internal flexq_progress_callback NativeProgress
        {
            get { return Progress != null || _cancellation.CanBeCanceled ? s_progress : null; }
        }

        internal flexq_token_callback NativeToken
        {
            get { return Token != null ? s_token : null; }
        }

        internal flexq_window_callback NativeWindow
        {
            get { return Window != null ? s_window : null; }
        }

        internal flexq_question_callback NativeQuestion
        {
            get { return Question != null ? s_question : null; }
        }

        /// <summary>Runs the native call; throws what a callback threw, or that the token was
        /// cancelled, rather than what C made of it.</summary>
        internal void Call(Action call)
        {
            try
            {
                call();
            }
            catch (FlexqException) when (_thrown != null)
            {
                // Thrown below, as it was.
            }
            catch (FlexqException failure) when (failure.Code == ErrorCode.Cancelled)
            {
                _cancellation.ThrowIfCancellationRequested();
                throw;
            }
            if (_thrown != null)
            {
                _thrown.Throw();
            }
        }

        public void Dispose()
        {
            _self.Free();
        }

        private static Callbacks From(IntPtr userData)
        {
            return (Callbacks)GCHandle.FromIntPtr(userData).Target;
        }

        private int Answer(bool goOn)
        {
            return goOn && !_cancellation.IsCancellationRequested ? 0 : 1;
        }

        private int Stop(Exception thrown)
        {
            if (_thrown == null)
            {
                _thrown = ExceptionDispatchInfo.Capture(thrown);
            }
            return 1;
        }

        private static int OnProgress(long done, long total, IntPtr userData)
        {
            Callbacks callbacks = From(userData);
            try
            {
                ProgressCallback progress = callbacks.Progress;
                return callbacks.Answer(progress == null || progress(done, total));
            }
            catch (Exception thrown)
            {
                return callbacks.Stop(thrown);
            }
        }

        private static int OnToken(IntPtr tokenEvent, IntPtr userData)
        {
            Callbacks callbacks = From(userData);
            try
            {
                var read = new TokenEvent(new flexq_token_event(tokenEvent, false));
                return callbacks.Answer(callbacks.Token(read));
            }
            catch (Exception thrown)
            {
                return callbacks.Stop(thrown);
            }
        }

        private static int OnWindow(int window, int windows, double nll, IntPtr userData)
        {
            Callbacks callbacks = From(userData);
            try
            {
                return callbacks.Answer(callbacks.Window(window, windows, nll));
            }
            catch (Exception thrown)
            {
                return callbacks.Stop(thrown);
            }
        }

        private static int OnQuestion(IntPtr result, IntPtr userData)
        {
            Callbacks callbacks = From(userData);
            try
            {
                var read = new QuestionResult(new flexq_question_result(result, false));
                return callbacks.Answer(callbacks.Question(read));
            }
            catch (Exception thrown)
            {
                return callbacks.Stop(thrown);
            }
        }
    }
}
