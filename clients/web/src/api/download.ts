/** Address of a file that a job made: projects/{p}/artifacts/{a}. */
export const artifactAddress = (name: string): string => `/api/artifacts/${name}`;

/** Formats in which models can be had, for people. */
export const MODEL_FORMATS = [
  ["monai-bundle", "MONAI bundle"],
  ["onnx", "ONNX"],
  ["bioimage-io", "bioimage.io package"],
] as const;

/** Address of a model as a file. */
export const modelAddress = (name: string, format: (typeof MODEL_FORMATS)[number][0]): string =>
  `/api/${name}?format=${format}`;
