// node human_pose_reference.js MODELS DRAWN OUTPUT
// What the graph of MoveNet in the folder MODELS of @vladmandic/human answers with the weights and the picture of the
// folder DRAWN, which test_import_human_pose.py draws, as JSON. Needs `npm install @tensorflow/tfjs@4.22.0`.
const tf = require("@tensorflow/tfjs");
const fs = require("fs");

const NAME = "movenet-lightning";
const EACH = 211; // of how many numbers of a map one is written
const MAPS = { center: "center_0/conv2d_4", heatmap: "kpt_heatmap_0/conv2d_5", regression: "kpt_regress_0/conv2d_6", offsets: "kpt_offset_0/conv2d_7" };

function weights(folder) {
  const groups = JSON.parse(fs.readFileSync(`${folder}/${NAME}.json`)).weightsManifest;
  const bytes = fs.readFileSync(`${folder}/${NAME}.bin`);
  const data = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  return tf.io.decodeWeights(data, groups.flatMap((group) => group.weights));
}

(async () => {
  const [, , models, drawn, output] = process.argv;
  await tf.setBackend("cpu");
  const { modelTopology, format, signature } = JSON.parse(fs.readFileSync(`${models}/${NAME}.json`));
  const { data: weightData, specs: weightSpecs } = await tf.io.encodeWeights({ ...weights(models), ...weights(drawn) });
  const model = await tf.loadGraphModel({ load: async () => ({ modelTopology, weightSpecs, weightData, format, signature }) });
  const image = tf.tensor(Int32Array.from(fs.readFileSync(`${drawn}/${NAME}.rgb`)), [1, 192, 192, 3], "int32");
  const answers = { joints: Array.from(model.execute(image, "Identity").dataSync()) }; // y, x and score of each
  for (const [name, node] of Object.entries(MAPS)) {
    const values = Array.from(model.execute(image, `StatefulPartitionedCall/${node}/BiasAdd`).dataSync());
    answers[name] = values.filter((_, place) => place % EACH === 0);
  }
  const rounded = (key, value) => (typeof value === "number" ? Number(value.toPrecision(7)) : value);
  fs.writeFileSync(output, JSON.stringify(answers, rounded) + "\n");
})();
