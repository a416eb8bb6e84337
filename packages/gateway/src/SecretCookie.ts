/**
 * Cookies by which a browser keeps a secret of this server. Scripts cannot read them, and requests from other sites do not carry them,
 * except links.
 */
export interface SecretCookie {
  readonly name: string
  /** The cookie goes with requests for paths below this one. */
  readonly path: string
  /** In seconds. 0 removes the cookie. */
  readonly maxAge: number
}

/** The value of `set-cookie`. */
export const secretCookie = ({ maxAge, name, path }: SecretCookie, secret: string, publicUrl: string): string => {
  const secure = publicUrl.startsWith("https:") ? "; Secure" : ""
  return `${name}=${secret}; Path=${path}; Max-Age=${maxAge}; HttpOnly; SameSite=Lax${secure}`
}
