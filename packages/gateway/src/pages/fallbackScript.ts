/**
 * The script of the fallback page. It requests the flows, shows the stages one after the other, and passes on the result. Plain
 * JavaScript for older browsers too; the page's policy names it by its hash.
 *
 * An OAuth2 stage leaves the page. The state of the flow is kept in `sessionStorage`, which no other origin and no other tab
 * can read. The page to which the provider redirects has the answer of the stage in `#data`.
 */
export const fallbackScript = `
"use strict";
(function () {
  var data = JSON.parse(document.getElementById("data").textContent);
  var registering = data.purpose === "registration";
  var endpoint = data.api + (registering ? "/register" : "/login");
  var key = "greenroom." + data.purpose;
  var main = document.querySelector("main");
  var heading = document.querySelector("h1");
  var stepLine = document.querySelector(".step");
  var view = document.getElementById("view");
  var alertBox = document.querySelector("[role=alert]");
  var status = document.querySelector("[role=status]");
  var title = registering ? "Create an account" : "Log in";
  var flows = [];
  var state = { passed: [], flow: null, session: null, user: null, target: null };
  var polling = 0;

  var names = {
    "m.login.password": registering ? "Choose a password" : "Password",
    "m.login.oauth2": "Another service",
    "m.login.email.code": "A code by email",
    "m.login.email.url": "A link by email",
    "m.login.registration_token": "Registration token"
  };

  // --- The page that opened this one ---------------------------------------------------------------------------------

  function originOfOpener() {
    if (!window.opener || !document.referrer) return location.origin;
    try { return new URL(document.referrer).origin; } catch (error) { return location.origin; }
  }

  function call(holder, result) {
    try {
      if (typeof holder.onLogin === "function") holder.onLogin(result);
      if (holder.matrixLogin && typeof holder.matrixLogin.onLogin === "function") holder.matrixLogin.onLogin(result);
      if (registering && typeof holder.onRegistered === "function") {
        holder.onRegistered(result.user_id, result.home_server, result.access_token);
      }
      if (registering && holder.matrixRegistration && typeof holder.matrixRegistration.onRegistered === "function") {
        holder.matrixRegistration.onRegistered(result.user_id, result.home_server, result.access_token);
      }
    } catch (error) { /* of another origin, which gets a message */ }
  }

  function handOver(result) {
    call(window, result);
    if (!window.opener) return;
    if (state.target === location.origin) call(window.opener, result);
    window.opener.postMessage({ type: registering ? "m.registration" : "m.login", result: result }, state.target);
    window.close();
  }

  // --- What is shown ---------------------------------------------------------------------------------------------------

  function element(name, properties, children) {
    var made = document.createElement(name);
    Object.keys(properties || {}).forEach(function (property) {
      if (property in made) made[property] = properties[property];
      else made.setAttribute(property, properties[property]);
    });
    (children || []).forEach(function (child) { made.append(child); });
    return made;
  }

  function show(text, children) {
    polling++;
    alertBox.textContent = "";
    status.textContent = "";
    heading.textContent = text;
    document.title = text + " - " + data.serverName;
    var count = state.flow ? state.flow.length : 1;
    stepLine.textContent = count > 1 ? "Step " + (state.passed.length + 1) + " of " + count : "";
    stepLine.hidden = count < 2;
    view.replaceChildren.apply(view, children);
    var first = view.querySelector("input:not([hidden])");
    if (first) first.focus();
    else heading.focus();
  }

  /* What is wrong is in the last field, unless the server says that it is the user name. */
  function wrongField(errcode) {
    var inputs = Array.from(view.querySelectorAll("input"));
    var ofUser = errcode === "M_INVALID_USERNAME" || errcode === "M_USER_IN_USE";
    return inputs.find(function (input) { return ofUser && input.name === "user"; }) || inputs.pop();
  }

  function fail(text, errcode) {
    alertBox.textContent = text;
    view.querySelectorAll("button").forEach(function (button) { button.disabled = false; });
    var wrong = wrongField(errcode);
    if (wrong) { wrong.setAttribute("aria-invalid", "true"); wrong.focus(); wrong.select(); }
  }

  function field(name, label, properties) {
    var input = element("input", Object.assign({ id: name, name: name, required: true }, properties));
    input.setAttribute("aria-describedby", "alert");
    input.addEventListener("input", function () { input.removeAttribute("aria-invalid"); });
    var caption = element("label", { htmlFor: name }, [label]);
    if (input.required === false) caption.append(" ", element("span", { className: "soft" }, ["(optional)"]));
    return [caption, input];
  }

  function form(fields, action, onSubmit) {
    var button = element("button", { type: "submit" }, [action]);
    var made = element("form", { noValidate: false }, fields.concat([button]));
    made.addEventListener("submit", function (event) {
      event.preventDefault();
      alertBox.textContent = "";
      button.disabled = true;
      var values = {};
      made.querySelectorAll("input").forEach(function (input) { if (input.value) values[input.name] = input.value; });
      onSubmit(values);
    });
    return made;
  }

  function link(text, onClick) {
    var button = element("button", { type: "button", className: "link" }, [text]);
    button.addEventListener("click", onClick);
    return button;
  }

  function links(children) { return element("div", { className: "links" }, children); }

  function paragraph(text, className) { return element("p", { className: className || "soft" }, [text]); }

  function beginAnew() { return link(flows.length > 1 ? "Choose another way" : "Start again", start); }

  // --- Talking to the server ---------------------------------------------------------------------------------------------

  function post(body) {
    if (state.session) body.session = state.session;
    return fetch(endpoint, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body)
    }).then(function (response) {
      return response.json().then(function (answer) { return { ok: response.ok, answer: answer }; });
    }, function () {
      return { ok: false, answer: { errcode: "M_UNKNOWN", error: "The server did not answer. Are you online?" } };
    });
  }

  /** Sends a stage. "onWaiting" handles a stage that waits; the next stage and the end are the same for all. */
  function send(type, body, onWaiting) {
    post(Object.assign({ type: type }, body)).then(function (result) {
      var answer = result.answer;
      if (!result.ok) return fail(answer.error, answer.errcode);
      if (body.user) state.user = body.user;
      if (answer.session) state.session = answer.session;
      proceed(type, answer, onWaiting);
    });
  }

  function proceed(type, answer, onWaiting) {
    if (answer.access_token) return finish(answer);
    if (answer.next) {
      state.passed = state.passed.concat([type]);
      state.flow = flowFor(state.passed, answer.next);
      return stage(answer.next);
    }
    if (onWaiting) onWaiting(answer);
  }

  function flowFor(passed, next) {
    var wanted = passed.concat([next]);
    return flows.find(function (flow) {
      return wanted.every(function (type, index) { return flow[index] === type; });
    }) || wanted;
  }

  function finish(result) {
    sessionStorage.removeItem(key);
    state.flow = null;
    show(registering ? "Welcome" : "You are logged in", [
      paragraph((registering ? "Your account is " : "You are ") + result.user_id + ".", ""),
      paragraph("You can close this window.")
    ]);
    handOver(result);
  }

  // --- The stages ------------------------------------------------------------------------------------------------------

  function userField(required) {
    if (state.user) return [];
    return field("user", registering ? "User name" : "User name or user ID", {
      autocomplete: "username", autocapitalize: "none", spellcheck: false, required: required
    });
  }

  function passwordNotes() {
    var texts = data.minPasswordLength > 1 ? ["The password has at least " + data.minPasswordLength + " characters."] : [];
    if (!state.user) texts.push("Without a user name, the server assigns a number.");
    return texts.length > 0 ? [paragraph(texts.join(" "), "soft small")] : [];
  }

  var stages = {
    "m.login.password": function (type) {
      var fields = userField(!registering).concat(field("password", registering ? "New password" : "Password", registering ? {
        type: "password", autocomplete: "new-password", minLength: data.minPasswordLength
      } : { type: "password", autocomplete: "current-password" }));
      var note = registering ? passwordNotes() : [];
      return [form(fields.concat(note), state.flow.length - state.passed.length > 1 ? "Continue" : title, function (values) {
        send(type, values);
      })];
    },
    "m.login.registration_token": function (type) {
      return [
        paragraph("The operator of " + data.serverName + " gave you a registration token."),
        form(field("token", "Registration token", { autocomplete: "off", autocapitalize: "none", spellcheck: false }),
          "Continue", function (values) { send(type, values); })
      ];
    },
    "m.login.email.code": function (type) {
      return emailForm(type, "You get a code by email.", function (email) { askForCode(type, email); });
    },
    "m.login.email.url": function (type) {
      return emailForm(type, "You get an email with a link to confirm.", function (email) { waitForLink(type, email); });
    },
    "m.login.oauth2": function (type) {
      return [
        paragraph("You confirm who you are at another service, and come back here."),
        form([], "Continue", function () {
          send(type, { fallback: true }, function (answer) {
            sessionStorage.setItem(key, JSON.stringify(state));
            location.assign(answer.uri);
          });
        })
      ];
    }
  };

  function emailForm(type, text, onSent) {
    var fields = (registering ? [] : userField(true)).concat(field("email", "Email address", {
      type: "email", autocomplete: "email", spellcheck: false
    }));
    return [paragraph(text), form(fields, "Send the email", function (values) {
      send(type, values, function () { onSent(values.email); });
    })];
  }

  function another(type, email, onSent) {
    return link("Send another email", function () { send(type, { email: email }, function () { onSent(email); }); });
  }

  function sentText() {
    return registering ? "If this address can be used here, it gets an email now: "
      : "If this address belongs to the account, it gets an email now: ";
  }

  function askForCode(type, email) {
    var fields = field("code", "Code", {
      className: "code", inputMode: "numeric", autocomplete: "one-time-code", maxLength: 12, spellcheck: false
    });
    show("Enter the code", [
      paragraph(sentText() + email),
      form(fields, "Continue", function (values) { send(type, values); }),
      links([another(type, email, function () { askForCode(type, email); }), beginAnew()])
    ]);
  }

  function waitForLink(type, email) {
    show("Look into your mail", [
      paragraph(sentText() + email),
      element("div", { className: "wait" }, ["Waiting until you confirm the link"]),
      links([another(type, email, function () { waitForLink(type, email); }), beginAnew()])
    ]);
    status.textContent = "Waiting until you confirm the link in the email";
    var mine = polling;
    (function ask() {
      setTimeout(function () {
        if (mine !== polling) return;
        post({ type: type }).then(function (result) {
          if (mine !== polling) return;
          if (result.ok) return proceed(type, result.answer);
          var waits = ["M_LOGIN_EMAIL_URL_NOT_YET", "M_LIMIT_EXCEEDED"].includes(result.answer.errcode);
          if (!waits) { polling++; view.querySelector(".wait").hidden = true; return fail(result.answer.error); }
          ask();
        });
      }, 2000);
    })();
  }

  function stage(type) {
    var known = stages[type];
    var children = known ? known(type) : [paragraph("This page does not know " + type + ".")];
    if (state.passed.length > 0 || flows.length > 1) children.push(beginAnew());
    show(state.passed.length > 0 ? names[type] || type : title, (state.passed.length > 0 ? [] : notes()).concat(children));
  }

  // --- The beginning ---------------------------------------------------------------------------------------------------

  function notes() {
    var lines = [paragraph((registering ? "at " : "to ") + data.serverName)];
    if (window.opener && state.target !== location.origin) {
      lines.push(paragraph("You do this for " + state.target + ", which may then act as you.", "note"));
    }
    return lines;
  }

  function begin(flow) {
    state.flow = flow;
    stage(flow[0]);
  }

  function describe(flow) {
    return flow.map(function (type, index) {
      var name = names[type] || type;
      return index === 0 ? name : name.charAt(0).toLowerCase() + name.slice(1);
    }).join(", then ");
  }

  function start() {
    state = { passed: [], flow: null, session: null, user: null, target: state.target };
    sessionStorage.removeItem(key);
    if (flows.length === 1) return begin(flows[0]);
    var choices = flows.map(function (flow, index) {
      var button = element("button", { type: "button", className: index === 0 ? "" : "plain" }, [describe(flow)]);
      button.addEventListener("click", function () { begin(flow); });
      return element("li", {}, [button]);
    });
    show(title, notes().concat([element("ul", { className: "choices" }, choices)]));
  }

  function resume() {
    var result = data.result;
    if (result.error) {
      start();
      return fail(result.error);
    }
    if (result.answer.session) state.session = result.answer.session;
    proceed("m.login.oauth2", result.answer);
  }

  function load() {
    return fetch(endpoint).then(function (response) { return response.json(); }).then(function (answer) {
      if (!answer.flows) return show(title, [paragraph(answer.error)]);
      flows = answer.flows.map(function (flow) { return flow.stages || [flow.type]; });
      if (data.result) resume();
      else start();
    }, function () {
      show(title, [link("Try again", load)]);
      fail("The server did not answer. Are you online?");
    });
  }

  /* The address of this page has the code of the provider: it was used, and needs not stay. */
  if (data.result) history.replaceState(null, "", location.pathname);
  var kept = data.result && sessionStorage.getItem(key);
  if (kept) state = JSON.parse(kept);
  else state.target = data.result ? location.origin : originOfOpener();
  load();
})();
`
