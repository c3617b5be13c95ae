import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.flexq.Context;
import org.flexq.ContextOptions;
import org.flexq.FlexqException;
import org.flexq.Model;
import org.flexq.Output;
import org.flexq.SamplingOptions;
import org.flexq.Tokenizer;

/**
 * Continues many prompts at once: Batch MODEL.flexq PROMPT...
 *
 * <p>Each prompt is a sequence of one context; every decode call computes the next token of all.
 */
public final class Batch {
  private static final int NEW_TOKENS = 32;

  private static final class Sequence {
    final List<Integer> tokens = new ArrayList<>(); // prompt and answer
    int nComputed; // tokens that the context holds
    boolean hasEnded;

    int[] tokensFrom(int begin) {
      return tokens.subList(begin, tokens.size()).stream().mapToInt(t -> t).toArray();
    }
  }

  private Batch() {}

  /** One token more for each sequence that has not ended. */
  private static void step(
      Model model, Context context, org.flexq.Batch batch, List<Sequence> sequences) {
    SamplingOptions greedy = new SamplingOptions();
    List<Sequence> added = new ArrayList<>();
    batch.clear();
    for (int i = 0; i < sequences.size(); i++) {
      Sequence sequence = sequences.get(i);
      if (!sequence.hasEnded) {
        batch.add(i, Output.LAST, sequence.tokensFrom(sequence.nComputed));
        sequence.nComputed = sequence.tokens.size();
        added.add(sequence);
      }
    }
    if (added.isEmpty()) {
      return;
    }
    context.decode(batch);
    for (int row = 0; row < added.size(); row++) {
      Sequence sequence = added.get(row);
      int position = sequence.tokens.size();
      int token = greedy.sample(context.logits(row), new int[0], position).token();
      sequence.hasEnded = model.isEndToken(token);
      if (!sequence.hasEnded) {
        sequence.tokens.add(token);
      }
    }
  }

  /** Runs the sample. */
  public static void main(String[] arguments) {
    if (arguments.length < 2) {
      System.err.println("usage: Batch MODEL.flexq PROMPT...");
      System.exit(2);
    }
    int n = arguments.length - 1;
    PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, UTF_8);
    try (Model model = Model.load(Path.of(arguments[0]));
        Tokenizer tokenizer = model.tokenizer();
        Context context = model.createContext(new ContextOptions().sequences(n));
        org.flexq.Batch batch = new org.flexq.Batch()) {
      List<Sequence> sequences = new ArrayList<>();
      for (int i = 0; i < n; i++) {
        sequences.add(new Sequence());
        for (int token : tokenizer.encode(arguments[i + 1])) {
          sequences.get(i).tokens.add(token);
        }
      }
      for (int i = 0; i < NEW_TOKENS; i++) {
        step(model, context, batch, sequences);
      }
      for (int i = 0; i < n; i++) {
        out.printf("[%d] %s%n", i, tokenizer.decode(sequences.get(i).tokensFrom(0)));
      }
    } catch (FlexqException e) {
      System.err.println(e);
      System.exit(1);
    }
  }
}
