using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using FlexQ.Internal;

namespace FlexQ.Tests
{
    internal static class TextScenarios
    {
        private static readonly string[] s_texts =
        {
            "plain", "", "caf\u00e9 \U0001F600 \u4f60", "e\u0301 z\u0351\u036b\u0313", "a\0b",
            "\U0001F469\u200D\U0001F680\U0001F1EF\U0001F1F5",
            "\u65e5\u672c\u8a9e\ud55c\uad6d\uc5b4",
            "\u05e9\u05dc\u05d5\u05dd", "<s> </s>",
        };

        [Scenario("tokenizer_text")]
        private static void Text()
        {
            using (Tokenizer tokenizer = Shared.Stories.CreateTokenizer())
            {
                Check.Equal(512, tokenizer.VocabularySize, "vocabulary");
                foreach (string text in s_texts)
                {
                    int[] tokens = tokenizer.Encode(text, EncodeFlags.Plain);
                    byte[] utf8 = Encoding.UTF8.GetBytes(text);
                    Check.Equal((long)utf8.Length, FlexqNative.flexq_csharp_last_text_bytes(),
                        "bytes that reached C of \"" + text + "\"");
                    Check.Equal(text, tokenizer.Decode(tokens), "decoded text");
                    // The tokenizer puts a space in front; byte tokens of a character stay apart.
                    byte[] pieces = tokens.SelectMany(tokenizer.TokenBytes).ToArray();
                    byte[] expected = text.Length == 0 ? utf8 : Encoding.UTF8.GetBytes(" " + text);
                    Check.Same(expected, pieces, "bytes of the tokens of \"" + text + "\"");
                }
                int[] plain = tokenizer.Encode(Shared.Prompt, EncodeFlags.Plain);
                Check.Same(new[] { 1 }.Concat(plain), tokenizer.Encode(Shared.Prompt), "BOS");
                Check.Same(new[] { 1 },
                    tokenizer.Encode("<s>", EncodeFlags.ParseSpecial), "a special token");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "512",
                    () => tokenizer.Decode(new[] { 512 }), "a token outside the vocabulary");
                Check.Throws<ArgumentNullException>(() => tokenizer.Encode(null), "no text");
                Check.Equal("\ufffd", tokenizer.Decode(tokenizer.Encode("\ud83d")),
                    "half a surrogate pair");
            }
            using (Source folder = Source.Open(Settings.StoriesCheckpoint))
            using (Tokenizer tokenizer = Tokenizer.Open(folder))
            {
                Check.Equal(512, tokenizer.VocabularySize, "vocabulary of the folder");
            }
        }

        [Scenario("token_bytes")]
        private static void TokenBytes()
        {
            using (Tokenizer tokenizer = Shared.Stories.CreateTokenizer())
            {
                int[] tokens = tokenizer.Encode("\U0001F600", EncodeFlags.Plain);
                IEnumerable<byte[]> last =
                    tokens.Skip(tokens.Length - 4).Select(tokenizer.TokenBytes);
                Check.Same(new byte[] { 0xf0, 0x9f, 0x98, 0x80 },
                    last.Select(bytes => bytes.Single()),
                    "the four bytes of an emoji, each in a token of its own");
                Check.Equal(0, tokenizer.TokenBytes(1).Length, "bytes of BOS");
                // As text, half a character is U+FFFD for each byte, never half a string.
                Check.Equal("\ufffd\ufffd",
                    tokenizer.Decode(tokens.Skip(tokens.Length - 4).Take(2).ToArray()).Trim(),
                    "half an emoji as text");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                    () => tokenizer.TokenBytes(-1), "token -1");
            }
            // In a stream, pieces wait until a character is whole.
            using (Context context = Shared.Load(Settings.Scripted).CreateContext())
            using (Generator generator = context.CreateGenerator(
                new GeneratorOptions { MaxTokens = 60 }))
            {
                generator.Start("\u4f60\u597d");
                int withoutText = 0;
                var strict = new UTF8Encoding(false, true);
                generator.Run(next =>
                {
                    Check.Equal(strict.GetByteCount(next.Text), next.TextByteCount,
                        "bytes of a piece");
                    withoutText += next.TextByteCount == 0 ? 1 : 0;
                });
                Check.True(withoutText > 10, "pieces that wait");
            }
        }

        [Scenario("chat_template")]
        private static void ChatTemplate()
        {
            using (Tokenizer tokenizer = Shared.Stories.CreateTokenizer())
            using (var chat = new Chat())
            {
                Check.Fails(ErrorCode.NotFound, "NOT_FOUND", "template",
                    () => tokenizer.ChatTemplate(), "a model without a template");
                Check.Equal("", tokenizer.ChatTemplateText(), "its Jinja text");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "",
                    () => tokenizer.EncodeChat(chat, "llama-2"), "no message");
                chat.Add("system", "Be brief.").Add("user", "Hi \U0001F600 </s>");
                Check.Equal(12L, FlexqNative.flexq_csharp_last_text_bytes(), "bytes of a message");
                int[] tokens = tokenizer.EncodeChat(chat, "llama-2");
                Check.Equal(1, tokens[0], "BOS");
                Check.Equal(1, tokens.Count(token => token == 1), "BOS once");
                Check.Equal(0, tokens.Count(token => token == 2), "</s> in a message is text");
                Check.Contains("\U0001F600 </s>", tokenizer.Decode(tokens), "the message");
                Check.Same(new[] { 2 }, tokenizer.ChatStopTokens("llama-2"), "stop tokens");
                Check.Fails(ErrorCode.UnsupportedValue, "UNSUPPORTED_VALUE", "esperanto",
                    () => tokenizer.EncodeChat(chat, "esperanto"), "an unknown format");
                Check.True(tokenizer.EncodeChat(chat, "zephyr", true).Length
                    > tokenizer.EncodeChat(chat, "zephyr", false).Length, "generation prompt");
                Check.Fails(ErrorCode.InvalidArgument, "INVALID_ARGUMENT", "role",
                    () => chat.Add("robot", "beep"), "an unknown role");
                AnswerTo(tokens, tokenizer);
                chat.Clear();
                chat.Add("user", "a");
                Check.True(tokenizer.EncodeChat(chat, "llama-2").Length < tokens.Length, "cleared");
            }
            TemplateOfItsOwn();
        }

        private static void AnswerTo(int[] prompt, Tokenizer tokenizer)
        {
            var options = new GeneratorOptions { MaxTokens = 8 };
            options.AddChatStops(tokenizer, "vicuna");
            using (Context context = Shared.Stories.CreateContext())
            using (Generator generator = context.CreateGenerator(options))
            {
                generator.Start(prompt);
                generator.Run();
                Check.Same(prompt, generator.PromptTokens(), "the prompt as tokens");
                Check.True(generator.Tokens().Length > 0, "an answer");
            }
        }

        /// <summary>A folder with a tokenizer and a template in its configuration.</summary>
        private static void TemplateOfItsOwn()
        {
            const string jinja = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + "
                + "m.content + '<|im_end|>\\n' }}{% endfor %}";
            Shared.WithTemporaryFolder(folder =>
            {
                File.Copy(Path.Combine(Settings.StoriesCheckpoint, "tokenizer.model"),
                    Path.Combine(folder, "tokenizer.model"));
                File.WriteAllText(Path.Combine(folder, "tokenizer_config.json"),
                    "{\"chat_template\": \"" + jinja.Replace("\\", "\\\\") + "\"}");
                using (Source source = Source.Open(folder))
                using (Tokenizer tokenizer = Tokenizer.Open(source))
                {
                    Check.Equal(jinja, tokenizer.ChatTemplateText(), "Jinja text");
                    Check.Equal("chatml", tokenizer.ChatTemplate(), "its format");
                }
            });
        }
    }
}
