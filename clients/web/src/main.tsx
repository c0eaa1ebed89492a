import { render } from "preact";
import { App } from "./app";
import { followLinks } from "./route";

followLinks();
const page = document.getElementById("page");
if (page) render(<App />, page);
