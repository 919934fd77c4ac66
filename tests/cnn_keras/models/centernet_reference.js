// node centernet_reference.js MODELS PICTURE OUTPUT
// What CenterNet of @vladmandic/human finds in a picture of 512×512 pixels, raw RGB bytes: 100 rows of left, top, right,
// bottom, score and class, in a row, as JSON. Needs `npm install @tensorflow/tfjs@4.22.0`.
const tf = require("@tensorflow/tfjs");
const fs = require("fs");

(async () => {
  const [, , models, picture, output] = process.argv;
  const { modelTopology, weightsManifest, format, signature } = JSON.parse(fs.readFileSync(`${models}/centernet.json`));
  const bytes = fs.readFileSync(`${models}/centernet.bin`);
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const load = async () => ({ modelTopology, weightSpecs, weightData, format, signature });
  await tf.setBackend("cpu");
  const model = await tf.loadGraphModel({ load });
  const image = tf.tensor(Float32Array.from(fs.readFileSync(picture)), [1, 512, 512, 3]);
  fs.writeFileSync(output, JSON.stringify(Array.from(model.execute(image, "tower_0/detections").dataSync())) + "\n");
})();
