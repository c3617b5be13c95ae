using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>How text becomes tokens.</summary>
    [Flags]
    public enum EncodeFlags
    {
        /// <summary>No BOS; "&lt;s&gt;" in the text is text.</summary>
        Plain = FlexqNative.FLEXQ_ENCODE_PLAIN,

        /// <summary>Puts BOS in front where the model wants one.</summary>
        AddBos = FlexqNative.FLEXQ_ENCODE_ADD_BOS,

        /// <summary>"&lt;s&gt;" becomes the token: for templates, never for user text.</summary>
        ParseSpecial = FlexqNative.FLEXQ_ENCODE_PARSE_SPECIAL,

        /// <summary>The same as <see cref="AddBos"/>.</summary>
        Default = FlexqNative.FLEXQ_ENCODE_DEFAULT,
    }
}
