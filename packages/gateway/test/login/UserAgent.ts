/**
 * A browser without scripts, for pages and redirects: it keeps cookies and follows no redirect by itself.
 */
import { Effect } from "effect"

export interface VisitOptions {
  readonly method?: string
  /** Posted as a form. */
  readonly form?: Record<string, string> | undefined
  readonly headers?: Record<string, string> | undefined
}

export const makeUserAgent = () => {
  const cookies = new Map<string, string>()
  const visit = (url: string, { form, headers, method = form === undefined ? "GET" : "POST" }: VisitOptions = {}) =>
    Effect.promise(async () => {
      const response = await fetch(url, {
        method,
        redirect: "manual",
        headers: {
          accept: "*/*",
          cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; "),
          ...(form === undefined ? {} : { "content-type": "application/x-www-form-urlencoded" }),
          ...headers
        },
        ...(form === undefined ? {} : { body: new URLSearchParams(form).toString() })
      })
      for (const cookie of response.headers.getSetCookie()) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
        if (name !== undefined && value !== undefined) cookies.set(name, value)
      }
      const location = response.headers.get("location")
      return {
        status: response.status,
        text: await response.text(),
        headers: response.headers,
        location: location === null ? undefined : new URL(location, url).href
      }
    })
  return { visit, cookies }
}

export type UserAgent = ReturnType<typeof makeUserAgent>
