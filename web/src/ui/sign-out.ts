import { leave } from "../api/client";

/** A form as on the page at /logout: only this origin's own pages may send it. */
export function signOut() {
  const form = document.createElement("form");
  form.method = "post";
  form.action = "/logout";
  document.body.append(form);
  leave();
  form.submit();
}
