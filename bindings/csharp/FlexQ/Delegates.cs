namespace FlexQ
{
    /// <summary>Progress of a long operation, called on the thread that runs it.</summary>
    /// <param name="done">Bytes, tokens or windows, as the operation says.</param>
    /// <param name="total">done equals it in the last call.</param>
    /// <returns>true to go on; false cancels: the operation throws a
    /// <see cref="FlexqException"/> with <see cref="ErrorCode.Cancelled"/> and leaves nothing
    /// half-made behind.</returns>
    public delegate bool ProgressCallback(long done, long total);

    /// <summary>After each window of a perplexity.</summary>
    /// <param name="window">Its index.</param>
    /// <param name="windowCount">How many there are.</param>
    /// <param name="meanNll">The window's mean negative log likelihood, nats.</param>
    /// <returns>true to go on, false to cancel.</returns>
    public delegate bool WindowCallback(int window, int windowCount, double meanNll);

    /// <summary>Reads from where a bundle is kept. Called by several threads at once, each with a
    /// buffer of its own.</summary>
    /// <param name="offset">Position in the bundle, bytes.</param>
    /// <param name="buffer">To be filled from its beginning.</param>
    /// <param name="count">Bytes to read, exactly.</param>
    public delegate void ReadCallback(long offset, byte[] buffer, int count);

    /// <summary>Gives memory.</summary>
    /// <param name="byteCount">1 or more.</param>
    /// <param name="alignment">A power of two.</param>
    /// <returns>An address that is a multiple of alignment; zero when there is no memory.</returns>
    public delegate System.IntPtr AllocateCallback(long byteCount, long alignment);

    /// <summary>Takes back what an <see cref="AllocateCallback"/> gave.</summary>
    /// <param name="memory">Its address.</param>
    /// <param name="byteCount">The same number of bytes.</param>
    public delegate void FreeCallback(System.IntPtr memory, long byteCount);
}
