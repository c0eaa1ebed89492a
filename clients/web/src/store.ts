import { useEffect, useState } from "preact/hooks";

/** A value that parts of the page follow. */
export class Store<T> {
  private followers = new Set<(value: T) => void>();

  constructor(public value: T) {}

  set(value: T): void {
    if (Object.is(value, this.value)) return;
    this.value = value;
    for (const follower of [...this.followers]) follower(value);
  }

  follow(follower: (value: T) => void): () => void {
    this.followers.add(follower);
    return () => this.followers.delete(follower);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [value, setValue] = useState(store.value);
  useEffect(() => {
    setValue(store.value);
    return store.follow((next) => setValue(() => next));
  }, [store]);
  return value;
}
