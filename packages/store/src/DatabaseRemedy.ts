/**
 * The remedies for a database that cannot be connected to, by the codes of PostgreSQL (such as 42501) and of the network.
 */

const remedies: { readonly [code: string]: string } = {
  "28000": "Check the name and the password in database_url, and pg_hba.conf of PostgreSQL.",
  "28P01": "Check the name and the password in database_url, and pg_hba.conf of PostgreSQL.",
  "3D000":
    "Create it (createdb --encoding UTF8 --locale C --template template0 NAME), or name another in database_url.",
  "42501":
    "Name the role that owns the tables in database_url, or let this role use them (GRANT, ALTER TABLE ... OWNER TO).",
  "53100": "Make room on the disk of PostgreSQL, and start Greenroom again.",
  "53300": "Raise max_connections of PostgreSQL, or end other programs that are connected.",
  "57P03": "Wait until PostgreSQL has started, and start Greenroom again.",
  ENOTFOUND: "Check the host in database_url, and DNS."
}

/** Whether the code is one of PostgreSQL, not of the network. */
export const isRefusal = (code: string | undefined): boolean => /^(?=.*[0-9])[0-9A-Z]{5}$/.test(code ?? "")

/** Faults of the URL itself, by what the client says before it connects. */
const urlRemedy = (reason: string): string | undefined =>
  reason === "No username configured"
    ? "Name the user in database_url: postgresql://user:password@host:5432/database."
    : / URL\b/.test(reason)
      ? "Correct database_url: postgresql://user:password@host:5432/database."
      : undefined

/** A sentence for the operator. `reason` is the message of a failure without a code. */
export const databaseRemedy = (code: string | undefined, reason = ""): string =>
  remedies[code ?? ""] ??
  (code === undefined ? urlRemedy(reason) : undefined) ??
  (isRefusal(code)
    ? "Look at the log of PostgreSQL."
    : "Start PostgreSQL, and check host, port, name and password of database_url.")
