import ai.djl.Model;
import ai.djl.huggingface.tokenizers.Encoding;
import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.djl.inference.Predictor;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import ai.djl.translate.NoopTranslator;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/** Labels texts with a classifier that `deeplora export --to torchscript` wrote: UseModel merged.pt TEXT... */
public final class UseModel {
  private UseModel() {}

  /** A file that lies in the model's file, which is a zip: tokenizer.json, deeplora.json, ... */
  static byte[] extra(Path file, String name) throws IOException {
    try (ZipFile zip = new ZipFile(file.toFile())) {
      ZipEntry entry =
          zip.stream()
              .filter(e -> e.getName().endsWith("/extra/" + name))
              .findFirst()
              .orElseThrow(() -> new IOException(file + " holds no " + name));
      try (InputStream in = zip.getInputStream(entry)) {
        return in.readAllBytes();
      }
    }
  }

  static JsonObject json(Path file, String name) throws IOException {
    return JsonParser.parseString(new String(extra(file, name), StandardCharsets.UTF_8)).getAsJsonObject();
  }

  /** Rows of numbers as int64 [B, T]. */
  static NDArray matrix(NDManager manager, long[][] rows) {
    long[] flat = Arrays.stream(rows).flatMapToLong(Arrays::stream).toArray();
    return manager.create(flat, new Shape(rows.length, rows[0].length));
  }

  public static void main(String[] arguments) throws Exception {
    Path file = Path.of(arguments[0]).toAbsolutePath();
    String[] texts = Arrays.copyOfRange(arguments, 1, arguments.length);
    JsonObject about = json(file, "deeplora.json");
    JsonArray labels = about.getAsJsonObject("task_state").getAsJsonArray("labels");
    String maxLength = about.getAsJsonObject("data").get("max_length").getAsString();
    JsonArray inputs = json(file, "export.json").getAsJsonArray("inputs");
    Map<String, String> options = Map.of("maxLength", maxLength, "truncation", "true", "padding", "true");

    String stem = file.getFileName().toString().replaceFirst("\\.pt$", "");
    try (HuggingFaceTokenizer tokenizer =
            HuggingFaceTokenizer.newInstance(new ByteArrayInputStream(extra(file, "tokenizer.json")), options);
        Model model = Model.newInstance(stem, "PyTorch")) {
      model.load(file.getParent(), stem);
      Encoding[] rows = tokenizer.batchEncode(texts);
      try (Predictor<NDList, NDList> predictor = model.newPredictor(new NoopTranslator());
          NDManager manager = model.getNDManager().newSubManager()) {
        NDList given = new NDList();
        for (int i = 0; i < inputs.size(); ++i) {  // in the order of forward
          switch (inputs.get(i).getAsString()) {
            case "input_ids" ->
                given.add(matrix(manager, Arrays.stream(rows).map(Encoding::getIds).toArray(long[][]::new)));
            case "attention_mask" ->
                given.add(matrix(manager, Arrays.stream(rows).map(Encoding::getAttentionMask).toArray(long[][]::new)));
            case "token_type_ids" ->
                given.add(matrix(manager, Arrays.stream(rows).map(Encoding::getTypeIds).toArray(long[][]::new)));
            default -> throw new IllegalStateException("unknown input " + inputs.get(i));
          }
        }
        NDArray probabilities = predictor.predict(given).singletonOrThrow().softmax(1); // [B, C]
        for (int row = 0; row < texts.length; ++row) {
          float[] p = probabilities.get(row).toFloatArray();
          int best = 0;
          StringBuilder line = new StringBuilder();
          for (int c = 0; c < p.length; ++c) {
            if (p[c] > p[best]) best = c;
            line.append(String.format(Locale.ROOT, "\t%s %.4f", labels.get(c).getAsString(), p[c]));
          }
          System.out.println(labels.get(best).getAsString() + line);
        }
      }
    }
  }
}
