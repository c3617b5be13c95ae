using System;
using System.Runtime.InteropServices;

namespace FlexQ.Internal
{
    // The function pointer types of flexq.h under their C names, which the generated code uses.

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    internal delegate void flexq_log_callback(
        int level, IntPtr text, long text_bytes, IntPtr user_data);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    internal delegate IntPtr flexq_allocate_callback(
        long n_bytes, long alignment, IntPtr user_data);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    internal delegate void flexq_free_callback(IntPtr memory, long n_bytes, IntPtr user_data);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    internal delegate int flexq_progress_callback(long done, long total, IntPtr user_data);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    internal delegate int flexq_read_callback(
        long offset, IntPtr buffer, long n_bytes, IntPtr user_data);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    internal delegate int flexq_token_callback(IntPtr token_event, IntPtr user_data);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    internal delegate int flexq_window_callback(
        int window, int n_windows, double window_nll, IntPtr user_data);

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    internal delegate int flexq_question_callback(IntPtr result, IntPtr user_data);
}
