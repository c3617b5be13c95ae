package org.flexq.internal;

import java.io.IOException;
import java.io.InputStream;
import java.net.URISyntaxException;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.CodeSource;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Finds and loads libflexq_java.so, which finds libflexq.so.0 beside itself. In this order:
 *
 * <ol>
 *   <li>the folder in the property flexq.library.path or, without it, in the environment variable
 *       FLEXQ_LIBRARY_PATH: where either is set, nothing else is tried
 *   <li>the folder of this jar
 *   <li>the natives jar on the class path, extracted into a fresh folder that is deleted at exit
 *   <li>java.library.path
 * </ol>
 *
 * A failure says every path that was tried, and why it was not taken.
 */
public final class NativeLoader {
  static final String PROPERTY = "flexq.library.path";
  static final String VARIABLE = "FLEXQ_LIBRARY_PATH";
  private static final String LIBRARY = "libflexq_java.so";
  private static final String NAME = "flexq_java";

  private final List<String> tried = new ArrayList<>();

  private NativeLoader() {}

  /** Called once, when {@link FlexqNativeJNI} is initialized. */
  static void load() {
    NativeLoader loader = new NativeLoader();
    String origin = loader.loadFirst();
    if (origin == null) {
      throw new UnsatisfiedLinkError(
          "FlexQ's native library was not found. Tried:\n  " + String.join("\n  ", loader.tried));
    }
    int abi = FlexqNativeJNI.flexq_abi_version();
    if (abi != FlexqNativeConstants.FLEXQ_ABI_VERSION) {
      throw new UnsatisfiedLinkError(
          String.format(
              Locale.ROOT,
              "FlexQ's native library from %s has ABI version %d, this jar needs version %d",
              origin,
              abi,
              FlexqNativeConstants.FLEXQ_ABI_VERSION));
    }
  }

  /** Where the library was loaded from; null: nowhere. */
  private String loadFirst() {
    String explicit = System.getProperty(PROPERTY);
    String how = "property " + PROPERTY;
    if (explicit == null || explicit.isEmpty()) {
      explicit = System.getenv(VARIABLE);
      how = "environment variable " + VARIABLE;
    }
    if (explicit != null && !explicit.isEmpty()) {
      return loadFile(Path.of(explicit).toAbsolutePath().resolve(LIBRARY), how);
    }
    Path beside = folderOfJar();
    String origin = beside == null ? null : loadFile(beside.resolve(LIBRARY), "beside the jar");
    if (origin == null) {
      origin = loadExtracted();
    }
    return origin != null ? origin : loadFromSystemPath();
  }

  private String loadFile(Path file, String how) {
    if (!Files.exists(file)) {
      tried.add(file + " (" + how + "): no such file");
      return null;
    }
    try {
      System.load(file.toString());
      return file.toString();
    } catch (UnsatisfiedLinkError e) {
      tried.add(file + " (" + how + "): " + e.getMessage());
      return null;
    }
  }

  private Path folderOfJar() {
    try {
      CodeSource source = NativeLoader.class.getProtectionDomain().getCodeSource();
      if (source == null || !"file".equals(source.getLocation().getProtocol())) {
        tried.add("(beside the jar): the classes come from no file");
        return null;
      }
      Path place = Path.of(source.getLocation().toURI());
      return Files.isDirectory(place) ? place : place.getParent();
    } catch (URISyntaxException | SecurityException e) {
      tried.add("(beside the jar): " + e);
      return null;
    }
  }

  private String loadExtracted() {
    String folder = "org/flexq/natives/" + platform() + "/";
    ClassLoader classes = NativeLoader.class.getClassLoader();
    URL list = classes.getResource(folder + "libraries.txt");
    if (list == null) {
      tried.add("class path resource " + folder + ": no natives jar for this platform");
      return null;
    }
    try (InputStream names = list.openStream()) {
      Path extracted = Files.createTempDirectory("flexq-");
      // Files are deleted at exit in the reverse order, so the folder is empty when its turn comes.
      extracted.toFile().deleteOnExit();
      for (String name : Utf8.string(names.readAllBytes()).trim().split("\\s+")) {
        Path file = extracted.resolve(name);
        file.toFile().deleteOnExit();
        try (InputStream library = classes.getResourceAsStream(folder + name)) {
          if (library == null) {
            throw new IOException("the natives jar lacks " + folder + name);
          }
          Files.copy(library, file);
        }
      }
      return loadFile(extracted.resolve(LIBRARY), "extracted from " + list);
    } catch (IOException e) {
      tried.add(list + " (extracted into " + System.getProperty("java.io.tmpdir") + "): " + e);
      return null;
    }
  }

  private String loadFromSystemPath() {
    try {
      System.loadLibrary(NAME);
      return "java.library.path";
    } catch (UnsatisfiedLinkError e) {
      tried.add(
          "java.library.path " + System.getProperty("java.library.path") + ": " + e.getMessage());
      return null;
    }
  }

  /** As in the natives jar's classifier: linux-x86_64. */
  private static String platform() {
    String system = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    String machine = System.getProperty("os.arch");
    return system + "-" + ("amd64".equals(machine) ? "x86_64" : machine);
  }
}
