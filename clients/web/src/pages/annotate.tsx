import type { Opened } from "./project";

/** The place of the annotator; until it is here, other programs annotate over the same project. */
export function AnnotatePage({ project }: Opened) {
  const id = project.name.split("/")[1];
  return (
    <section>
      <h2>Annotate</h2>
      <p>
        The annotator in the browser comes with a later release. Until then, two programs work on this very
        project:
      </p>
      <h3>3D Slicer</h3>
      <p>
        In its MONAI Label module, enter this server; it asks for your user and an API token as the password:
      </p>
      <pre>{`${location.origin}/monailabel/${id}`}</pre>
      <h3>Python and napari</h3>
      <pre>{`import biosegment

client = biosegment.connect(token="…")
claim = client.samples.claim("${project.name}", 5)
for sample in claim.samples:
    raw = client.volumes.read(sample.volume, sample.region)
    labels = ...  # uint8: 0 not annotated, 1 background, 2 and more: classes
    client.annotations.commit(labels, sample=sample)`}</pre>
      <p>
        <a href="/account">Make an API token</a>
      </p>
    </section>
  );
}
