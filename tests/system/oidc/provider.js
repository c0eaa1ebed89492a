// A real OpenID Connect provider on loopback for tests: whoever types a name is signed in as that, and in the group
// `lab-admins` when the name is "root". Programs that know nothing but passwords may ask with the one password that
// there is. Reads its settings as JSON from the environment, prints its issuer as JSON.
import * as http from "node:http";

import Provider, { errors } from "oidc-provider";

const { keys, redirectUri, accessTokenSeconds } = JSON.parse(process.env.TEST_PROVIDER);

const device = {
  application_type: "native",
  token_endpoint_auth_method: "none",
  grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
  response_types: [],
  redirect_uris: [],
};
const page = { grant_types: ["authorization_code", "password"], response_types: ["code"], redirect_uris: [redirectUri] };

const said = (login) => ({
  sub: login,
  preferred_username: login,
  name: `Dr ${login}`,
  groups: login === "root" ? ["lab-admins", "everybody"] : ["everybody"],
});

async function withPassword(provider, ctx) {
  const { client, params } = ctx.oidc;
  if (params.password !== "the provider's password") throw new errors.InvalidGrant("wrong password");
  const accountId = params.username;
  const grant = new provider.Grant({ accountId, clientId: client.clientId });
  grant.addOIDCScope(params.scope);
  const token = new provider.AccessToken({ accountId, client, scope: params.scope, gty: "password" });
  token.grantId = await grant.save();
  const identity = new provider.IdToken({ sub: accountId }, { ctx });
  identity.scope = "openid";
  ctx.body = {
    access_token: await token.save(),
    id_token: await identity.issue({ use: "idtoken" }),
    token_type: "Bearer",
    expires_in: token.expiration,
  };
}

const server = http.createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [
      { client_id: "biosegment-page", client_secret: "a secret: with/odd characters", ...page },
      { client_id: "biosegment-cli", ...device },
      // Its access tokens are not for the platform and cannot be read by it.
      { client_id: "biosegment-opaque", ...device },
    ],
    claims: { openid: ["sub"], profile: ["preferred_username", "name"], groups: ["groups"] },
    scopes: ["openid", "offline_access", "profile", "groups"],
    cookies: { keys: ["only for tests"] },
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, client) => (client.clientId === "biosegment-cli" ? "urn:biosegment" : undefined),
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: "platform",
          audience: "biosegment-api",
          accessTokenTTL: accessTokenSeconds,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
    findAccount: async (_, login) => ({ accountId: login, claims: async () => said(login) }),
    extraTokenClaims: (_, token) => {
      const { preferred_username, groups } = said(token.accountId);
      return { preferred_username, groups };
    },
    pkce: { required: () => true },
  });
  provider.registerGrantType("password", (ctx) => withPassword(provider, ctx), ["username", "password", "scope"]);
  provider.on("server_error", (_, error) => console.error(error));
  server.on("request", provider.callback());
  console.log(JSON.stringify({ issuer }));
});
process.on("SIGTERM", () => process.exit(0));
