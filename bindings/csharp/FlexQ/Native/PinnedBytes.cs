using System;
using System.Runtime.InteropServices;

namespace FlexQ.Internal
{
    /// <summary>An array that does not move until Dispose.</summary>
    internal sealed class PinnedBytes : IDisposable
    {
        private GCHandle _pin;

        internal PinnedBytes(byte[] bytes)
        {
            _pin = GCHandle.Alloc(bytes, GCHandleType.Pinned);
        }

        internal IntPtr Address
        {
            get { return _pin.AddrOfPinnedObject(); }
        }

        public void Dispose()
        {
            _pin.Free();
        }
    }
}
