using System;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using System.Threading;

namespace FlexQ.Internal
{
    /// <summary>A read callback, for as long as C may call it. It is called by threads of the
    /// library: an exception is kept, C is told that reading failed, and the method that read
    /// throws it.</summary>
    internal sealed class SourceReader : IDisposable
    {
        internal static readonly flexq_read_callback Native = OnRead;

        private const int PieceBytes = 1 << 20;

        private readonly ReadCallback _read;
        private GCHandle _self;
        private ExceptionDispatchInfo _thrown;

        internal SourceReader(ReadCallback read)
        {
            _read = read;
            _self = GCHandle.Alloc(this);
        }

        internal IntPtr UserData
        {
            get { return GCHandle.ToIntPtr(_self); }
        }

        internal void Call(Action call)
        {
            try
            {
                call();
            }
            catch (FlexqException)
            {
                ExceptionDispatchInfo thrown = Interlocked.Exchange(ref _thrown, null);
                if (thrown != null)
                {
                    thrown.Throw();
                }
                throw;
            }
        }

        public void Dispose()
        {
            _self.Free();
        }

        private static int OnRead(long offset, IntPtr buffer, long byteCount, IntPtr userData)
        {
            var reader = (SourceReader)GCHandle.FromIntPtr(userData).Target;
            try
            {
                var piece = new byte[Math.Min(byteCount, PieceBytes)];
                for (long done = 0; done < byteCount;)
                {
                    int count = (int)Math.Min(byteCount - done, piece.Length);
                    reader._read(offset + done, piece, count);
                    Marshal.Copy(piece, 0, new IntPtr(buffer.ToInt64() + done), count);
                    done += count;
                }
                return 0;
            }
            catch (Exception thrown)
            {
                Interlocked.CompareExchange(
                    ref reader._thrown, ExceptionDispatchInfo.Capture(thrown), null);
                return 1;
            }
        }
    }
}
