import { expect, test } from "vitest";
import type { Job } from "../src/api/messages";
import { withJob } from "../src/job-list";
import { match } from "../src/match";

test("a path gives the parameters of its pattern", () => {
  expect(match("/projects/:project/volumes/:volume", "/projects/a/volumes/b%20c?x=1")).toEqual({
    project: "a",
    volume: "b c",
  });
  expect(match("/projects/:project", "/projects/a/")).toEqual({ project: "a" });
  expect(match("/", "/?a=b")).toEqual({});
  expect(match("/projects/:project", "/projects")).toBeUndefined();
  expect(match("/projects/:project", "/projects/a/jobs")).toBeUndefined();
  expect(match("/projects/:project", "/projects/%")).toEqual({ project: "%" });
});

const job = (name: string, second: string, revision = "1"): Job =>
  ({ name, createTime: `2030-01-01T00:00:0${second}Z`, revision }) as Job;

test("a changed job takes the place of what was known, unless it is older", () => {
  const rows = [job("b", "2", "5"), job("a", "1")];
  expect(withJob(rows, job("b", "2", "6")).map((row) => row.revision)).toEqual(["6", "1"]);
  expect(withJob(rows, job("b", "2", "4"))).toBe(rows);
});

test("a new job comes first, and one of a page that is not shown does not come", () => {
  const rows = [job("c", "3"), job("b", "2")];
  expect(withJob(rows, job("d", "4")).map((row) => row.name)).toEqual(["d", "c", "b"]);
  expect(withJob(rows, job("a", "1"))).toBe(rows);
  expect(withJob([job("c", "3")], job("d", "3.5")).map((row) => row.name)).toEqual(["d", "c"]);
  expect(withJob([], job("a", "1")).map((row) => row.name)).toEqual(["a"]);
});
