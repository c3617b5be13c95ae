using System;
using FlexQ.Internal;

namespace FlexQ
{
    /// <summary>Text to token ids and back, and the formats of conversations. Immutable and
    /// thread-safe.
    /// <para>A chat model was trained on conversations in one format. FlexQ applies formats by
    /// name: "llama-2", "llama-3", "chatml", "zephyr", "vicuna". Where a method takes a
    /// templateName it is one of these; null: the format of the model's own template, which is
    /// NotFound where the model has none and UnsupportedModel where it is none of these. Another
    /// name: UnsupportedValue.</para></summary>
    public sealed class Tokenizer : IDisposable
    {
        internal Tokenizer(NativeHandle.Creator create)
        {
            Handle = new NativeHandle(
                nameof(Tokenizer), create, FlexqNative.flexq_tokenizer_release);
        }

        /// <summary>Tokens there are.</summary>
        public int VocabularySize
        {
            get
            {
                using (NativeHandle.Lease tokenizer = Handle.Acquire())
                {
                    return FlexqNative.flexq_tokenizer_vocab_size(tokenizer.Pointer);
                }
            }
        }

        internal NativeHandle Handle { get; }

        /// <summary>Reads only the tokenizer of a source: a bundle, a checkpoint, or a folder with
        /// tokenizer.model or tokenizer.json.</summary>
        /// <param name="source">Not needed any more afterwards.</param>
        /// <returns>A tokenizer to be disposed by the caller.</returns>
        /// <exception cref="FlexqException">NotFound where there is none; what a load throws.
        /// </exception>
        public static Tokenizer Open(Source source)
        {
            if (source == null)
            {
                throw new ArgumentNullException(nameof(source));
            }
            return new Tokenizer((out IntPtr handle) =>
            {
                IntPtr opened = IntPtr.Zero;
                source.Call(pointer => FlexqNative.flexq_tokenizer_open(pointer, out opened));
                handle = opened;
            });
        }

        /// <summary>Text to token ids.</summary>
        /// <param name="text">Any characters, zero included.</param>
        /// <param name="flags">Whether BOS is added, whether special tokens are read.</param>
        /// <returns>Token ids.</returns>
        /// <exception cref="FlexqException">LimitExceeded (over 2^28 bytes).</exception>
        public int[] Encode(string text, EncodeFlags flags = EncodeFlags.Default)
        {
            byte[] bytes = Utf8.Text(text, nameof(text));
            using (NativeHandle.Lease tokenizer = Handle.Acquire())
            {
                IntPtr pointer = tokenizer.Pointer;
                return Buffers.Tokens((bytes.Length / 2) + 16,
                    (int[] tokens, int capacity, out int length) =>
                        FlexqNative.flexq_tokenizer_encode(pointer, bytes, bytes.Length,
                            (int)flags, tokens, capacity, out length));
            }
        }

        /// <summary>Token ids to text; control tokens give nothing. Bytes that form no whole
        /// character become U+FFFD each.</summary>
        /// <param name="tokens">Token ids.</param>
        /// <returns>The text.</returns>
        /// <exception cref="FlexqException">InvalidArgument (a token outside the vocabulary).
        /// </exception>
        public string Decode(int[] tokens)
        {
            Buffers.NotNull(tokens, nameof(tokens));
            using (NativeHandle.Lease tokenizer = Handle.Acquire())
            {
                IntPtr pointer = tokenizer.Pointer;
                return Utf8.Text(Buffers.Bytes(16 + (8 * tokens.Length),
                    (byte[] text, long capacity, out long length) =>
                        FlexqNative.flexq_tokenizer_decode(
                            pointer, tokens, tokens.Length, text, capacity, out length)));
            }
        }

        /// <summary>The bytes that one token adds in the middle of a text: maybe half a character.
        /// </summary>
        /// <param name="token">Token id.</param>
        /// <returns>Its bytes; none for control tokens.</returns>
        /// <exception cref="FlexqException">InvalidArgument (outside the vocabulary).</exception>
        public byte[] TokenBytes(int token)
        {
            using (NativeHandle.Lease tokenizer = Handle.Acquire())
            {
                IntPtr pointer = tokenizer.Pointer;
                return Buffers.Bytes(32, (byte[] bytes, long capacity, out long length) =>
                    FlexqNative.flexq_tokenizer_token_bytes(
                        pointer, token, bytes, capacity, out length));
            }
        }

        /// <summary>The name of the format of the model's own chat template.</summary>
        /// <returns>"llama-2", "llama-3", "chatml", "zephyr" or "vicuna".</returns>
        /// <exception cref="FlexqException">NotFound (the model has no template), UnsupportedModel
        /// (it is none of these).</exception>
        public string ChatTemplate()
        {
            using (NativeHandle.Lease tokenizer = Handle.Acquire())
            {
                IntPtr name;
                FlexqNative.flexq_tokenizer_chat_template(tokenizer.Pointer, out name);
                return Utf8.Name(name);
            }
        }

        /// <summary>The model's own Jinja template, verbatim, known or not.</summary>
        /// <returns>Empty where it has none.</returns>
        public string ChatTemplateText()
        {
            using (NativeHandle.Lease tokenizer = Handle.Acquire())
            {
                IntPtr pointer = tokenizer.Pointer;
                return Utf8.Text(Buffers.Bytes(1024,
                    (byte[] text, long capacity, out long length) =>
                        FlexqNative.flexq_tokenizer_chat_template_text(
                            pointer, text, capacity, out length)));
            }
        }

        /// <summary>The tokens of a whole conversation, BOS included where the format or the model
        /// wants it. Contents are text whatever they spell.</summary>
        /// <param name="chat">At least one message.</param>
        /// <param name="templateName">Null: the model's own.</param>
        /// <param name="addGenerationPrompt">Ends with what makes the model answer.</param>
        /// <returns>For <see cref="Generator.Start(int[])"/> or a batch.</returns>
        /// <exception cref="FlexqException">InvalidArgument (no message; an order the format does
        /// not know), UnsupportedModel (the tokenizer lacks a token of the format).</exception>
        public int[] EncodeChat(
            Chat chat, string templateName = null, bool addGenerationPrompt = true)
        {
            if (chat == null)
            {
                throw new ArgumentNullException(nameof(chat));
            }
            byte[] name = Utf8.Name(templateName, nameof(templateName));
            using (NativeHandle.Lease tokenizer = Handle.Acquire())
            using (NativeHandle.Lease messages = chat.Handle.AcquireAlone())
            {
                IntPtr pointer = tokenizer.Pointer;
                IntPtr chatPointer = messages.Pointer;
                return Buffers.Tokens(256, (int[] tokens, int capacity, out int length) =>
                    FlexqNative.flexq_tokenizer_encode_chat(pointer, name, chatPointer,
                        addGenerationPrompt ? 1 : 0, tokens, capacity, out length));
            }
        }

        /// <summary>Tokens that end an answer in a chat format, ascending.</summary>
        /// <param name="templateName">Null: the model's own.</param>
        /// <returns>Token ids.</returns>
        /// <exception cref="FlexqException">As <see cref="ChatTemplate"/>.</exception>
        public int[] ChatStopTokens(string templateName = null)
        {
            byte[] name = Utf8.Name(templateName, nameof(templateName));
            using (NativeHandle.Lease tokenizer = Handle.Acquire())
            {
                IntPtr pointer = tokenizer.Pointer;
                return Buffers.Tokens(8, (int[] tokens, int capacity, out int length) =>
                    FlexqNative.flexq_tokenizer_chat_stop_tokens(
                        pointer, name, tokens, capacity, out length));
            }
        }

        /// <summary>Lets no new call in; calls that run end normally. Twice is once.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }
    }
}
