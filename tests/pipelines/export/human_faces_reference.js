// node human_faces_reference.js MODELS DRAWN OUTPUT
// What the graphs in the folder MODELS of @vladmandic/human answer with the weights and pictures of the folder DRAWN, which
// test_import_human_faces.py draws, as JSON. Needs `npm install @tensorflow/tfjs@4.22.0`.
const tf = require("@tensorflow/tfjs");
const fs = require("fs");

const EACH = 29; // of how many of BlazeFace's anchors one is written
const SIDES = { blazeface: 256, antispoof: 128, liveness: 32 };

function weights(folder, name) {
  const groups = JSON.parse(fs.readFileSync(`${folder}/${name}.json`)).weightsManifest;
  const bytes = fs.readFileSync(`${folder}/${name}.bin`);
  const data = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  return tf.io.decodeWeights(data, groups.flatMap((group) => group.weights));
}

(async () => {
  const [, , models, drawn, output] = process.argv;
  await tf.setBackend("cpu");
  const answers = {};
  for (const [name, side] of Object.entries(SIDES)) {
    const { modelTopology, format, signature } = JSON.parse(fs.readFileSync(`${models}/${name}.json`));
    const tensors = { ...weights(models, name), ...weights(drawn, name) };
    const { data: weightData, specs: weightSpecs } = await tf.io.encodeWeights(tensors);
    const model = await tf.loadGraphModel({ load: async () => ({ modelTopology, weightSpecs, weightData, format, signature }) });
    const image = tf.tensor(Float32Array.from(fs.readFileSync(`${drawn}/${name}.rgb`)), [1, side, side, 3]);
    const scaled = name === "blazeface" ? image.div(127.5).sub(1) : image.div(255);
    const outputs = [model.execute(scaled)].flat().sort((one, other) => one.size - other.size);
    answers[name] = Array.from(outputs[0].dataSync());
    if (name === "blazeface") {
      const [coarse, fine, coarseOffsets, fineOffsets] = outputs;
      const logits = tf.concat([fine.flatten(), coarse.flatten()]).arraySync();
      const offsets = tf.concat([fineOffsets.reshape([-1, 16]), coarseOffsets.reshape([-1, 16])]).arraySync();
      const chosen = (_, row) => row % EACH === 0;
      answers[name] = { logits: logits.filter(chosen), offsets: offsets.filter(chosen) };
    }
  }
  const rounded = (key, value) => (typeof value === "number" ? Number(value.toPrecision(7)) : value);
  fs.writeFileSync(output, JSON.stringify(answers, rounded) + "\n");
})();
