using System;
using System.IO;
using System.Text;
using FlexQ;

/// <summary>A conversation with streamed answers: Chat.exe MODEL.flexq [TEMPLATE].
/// <para>Reads one message a line from standard input. TEMPLATE is a chat format ("llama-2",
/// "llama-3", "chatml", "zephyr", "vicuna"); without it the format that the model names itself.
/// </para></summary>
internal static class ChatSample
{
    private const int AnswerTokens = 64;

    private static int Main(string[] arguments)
    {
        if (arguments.Length < 1)
        {
            Console.Error.WriteLine("usage: Chat.exe MODEL.flexq [TEMPLATE]");
            return 2;
        }
        Console.OutputEncoding = new UTF8Encoding(false);
        try
        {
            Converse(arguments[0], arguments.Length > 1 ? arguments[1] : null);
            return 0;
        }
        catch (FlexqException failure)
        {
            Console.Error.WriteLine(failure.Name + ": " + failure.Message);
            return 1;
        }
    }

    private static void Converse(string path, string template)
    {
        using (Model model = Model.Load(path))
        using (Tokenizer tokenizer = model.CreateTokenizer())
        using (Context context = model.CreateContext())
        using (var chat = new Chat())
        using (var input = new StreamReader(Console.OpenStandardInput(), Encoding.UTF8))
        {
            var options = new GeneratorOptions { MaxTokens = AnswerTokens };
            options.AddChatStops(tokenizer, template);
            for (string line = input.ReadLine(); line != null; line = input.ReadLine())
            {
                if (line.Length == 0)
                {
                    continue;
                }
                chat.Add("user", line);
                int[] tokens = tokenizer.EncodeChat(chat, template);
                // The tokens are the whole conversation: begin with an empty sequence.
                context.Rewind(0, 0);
                using (Generator generator = context.CreateGenerator(options))
                {
                    generator.Start(tokens);
                    generator.Run(PrintPiece);
                    chat.Add("assistant", generator.Text());
                }
                Console.WriteLine();
            }
        }
    }

    private static void PrintPiece(TokenEvent next)
    {
        Console.Write(next.Text);
        Console.Out.Flush();
    }
}
