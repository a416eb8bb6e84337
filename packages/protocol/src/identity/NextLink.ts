/**
 * `next_link` of a request for a validation token: the page to which the page of the link in the mail leads.
 *
 * Source: `requestToken` of the client-server and of the identity service specification.
 */

/** Whether the target is a web page, without user and password. */
export const isNextLink = (link: string): boolean => {
  const url = URL.parse(link)
  return (url?.protocol === "https:" || url?.protocol === "http:") && url.username === "" && url.password === ""
}
