using System;
using System.Runtime.InteropServices;
using System.Threading;

namespace FlexQ.Internal
{
    /// <summary>Owns one native handle. SafeHandle counts who is inside a call: a call acquires,
    /// which throws after Dispose; Dispose lets no new call in, and the last one out releases
    /// natively. What nobody can reach any more is released by the finalizer.</summary>
    internal sealed class NativeHandle : SafeHandle
    {
        private static long s_open;

        private readonly string _owner;
        private readonly Action<IntPtr> _release;
        private readonly IDisposable _attachment;
        private readonly NativeHandle _kept;
        private int _isHeldAlone;

        internal delegate void Creator(out IntPtr handle);

        /// <param name="owner">The public class, for exceptions.</param>
        /// <param name="create">Makes the native handle, or throws.</param>
        /// <param name="release">The *_release function.</param>
        /// <param name="attachment">Disposed after the native release: what C was given an
        /// address of. Not disposed when create throws.</param>
        /// <param name="kept">Held until this one is released.</param>
        internal NativeHandle(string owner, Creator create, Action<IntPtr> release,
            IDisposable attachment = null, NativeHandle kept = null)
            : base(IntPtr.Zero, true)
        {
            NativeLoader.Load();
            _owner = owner;
            _release = release;
            _attachment = attachment;
            IntPtr created;
            create(out created);
            SetHandle(created);
            Interlocked.Increment(ref s_open);
            if (kept != null)
            {
                kept.Acquire();
                _kept = kept;
            }
        }

        /// <summary>Native handles of this process that are not released yet.</summary>
        internal static long OpenCount
        {
            get { return Interlocked.Read(ref s_open); }
        }

        public override bool IsInvalid
        {
            get { return handle == IntPtr.Zero; }
        }

        /// <summary>The native handle, for as long as the lease is not disposed.</summary>
        /// <exception cref="ObjectDisposedException">Dispose was called before.</exception>
        internal Lease Acquire()
        {
            bool acquired = false;
            try
            {
                DangerousAddRef(ref acquired);
            }
            catch (ObjectDisposedException)
            {
                throw new ObjectDisposedException(_owner);
            }
            return new Lease(this, handle, false);
        }

        /// <summary>The same for an object that belongs to one thread at a time.</summary>
        /// <exception cref="InvalidOperationException">Another thread is inside a call.
        /// </exception>
        internal Lease AcquireAlone()
        {
            Lease lease = Acquire();
            if (Interlocked.CompareExchange(ref _isHeldAlone, 1, 0) != 0)
            {
                lease.Dispose();
                throw new InvalidOperationException(
                    _owner + " is used by another thread: it belongs to one thread at a time");
            }
            return new Lease(this, handle, true);
        }

        /// <summary>Runs a step of making the object; disposes of it where that throws.</summary>
        internal NativeHandle With(Action<IntPtr> prepare)
        {
            try
            {
                prepare(handle);
                return this;
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        protected override bool ReleaseHandle()
        {
            _release(handle);
            Interlocked.Decrement(ref s_open);
            if (_attachment != null)
            {
                _attachment.Dispose();
            }
            if (_kept != null)
            {
                _kept.DangerousRelease();
            }
            return true;
        }

        internal struct Lease : IDisposable
        {
            private readonly NativeHandle _handle;
            private readonly bool _isAlone;

            internal Lease(NativeHandle handle, IntPtr pointer, bool isAlone)
            {
                _handle = handle;
                _isAlone = isAlone;
                Pointer = pointer;
            }

            internal IntPtr Pointer { get; }

            public void Dispose()
            {
                if (_isAlone)
                {
                    Volatile.Write(ref _handle._isHeldAlone, 0);
                }
                _handle.DangerousRelease();
            }
        }
    }
}
