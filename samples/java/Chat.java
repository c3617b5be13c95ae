import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.file.Path;
import org.flexq.Context;
import org.flexq.FlexqException;
import org.flexq.Generator;
import org.flexq.GeneratorOptions;
import org.flexq.Model;
import org.flexq.Tokenizer;

/**
 * A conversation with streamed answers: Chat MODEL.flexq [TEMPLATE].
 *
 * <p>Reads one message a line from standard input. TEMPLATE is a chat format ("llama-2", "llama-3",
 * "chatml", "zephyr", "vicuna"); without it the format that the model names itself.
 */
public final class Chat implements AutoCloseable {
  private static final int ANSWER_TOKENS = 64;

  private final PrintStream out =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, UTF_8);
  private final String template;
  private final Tokenizer tokenizer;
  private final Context context;
  private final GeneratorOptions options;
  private final org.flexq.Chat messages = new org.flexq.Chat();

  private Chat(Path path, String template) {
    this.template = template;
    // What is made from the model keeps what it needs of it.
    try (Model model = Model.load(path)) {
      tokenizer = model.tokenizer();
      context = model.createContext();
    }
    options = new GeneratorOptions().chatStops(tokenizer, template).maxTokens(ANSWER_TOKENS);
  }

  /** Streams the answer to standard output. */
  private void answer(String message) {
    messages.add("user", message);
    // The tokens are the whole conversation: begin with an empty sequence.
    context.rewind(0, 0);
    try (Generator generator = context.createGenerator(options)) {
      generator.start(tokenizer.encodeChat(template, messages, true));
      generator.run(
          event -> {
            out.print(event.text());
            out.flush();
            return true; // false would end the answer
          });
      messages.add("assistant", generator.text());
    }
    out.println();
  }

  @Override
  public void close() {
    messages.close();
    context.close();
    tokenizer.close();
  }

  /** Runs the sample. */
  public static void main(String[] arguments) throws IOException {
    if (arguments.length < 1) {
      System.err.println("usage: Chat MODEL.flexq [TEMPLATE]");
      System.exit(2);
    }
    String template = arguments.length > 1 ? arguments[1] : null;
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, UTF_8));
    try (Chat chat = new Chat(Path.of(arguments[0]), template)) {
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        if (!line.isEmpty()) {
          chat.answer(line);
        }
      }
    } catch (FlexqException e) {
      System.err.println(e);
      System.exit(1);
    }
  }
}
