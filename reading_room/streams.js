// Gradio's page takes its stream of answers as open until it has read that the server ended it. On a slow line that
// news comes long after it was sent. The receipt of an event that overtakes it is kept back here until then: else the
// page would open no new stream, and wait for this event's answers for ever.
(() => {
  const LONGEST = 20_000; // ms that a receipt is kept back
  const MOMENT = 100; // ms that gradio takes, at most, to read what it has
  const send = window.fetch.bind(window);
  const open = new Map(); // signal of each stream that gradio takes as open, to its number; NaN until that is known
  const held = new Set(); // one function for each receipt that is kept back

  function note(signal, number) {
    if (number === undefined) open.delete(signal);
    else open.set(signal, number);
    held.forEach(look => look());
  }

  function settle(ended) {
    return new Promise(resolve => {
      const look = () => {
        if ([...open.values()].some(number => !(number > ended))) return;
        held.delete(look);
        resolve();
      };
      held.add(look);
      look();
      setTimeout(() => held.delete(look) && resolve(), LONGEST);
    });
  }

  // Notices the end of a stream also where gradio's abort never reaches the request's own signal, as happens now and
  // then: once gradio has asked past the last piece, which its buffers do a moment before it has read that one.
  function watch(answer, ended) {
    const pieces = answer.body.getReader();
    const body = {
      async pull(handed) {
        try {
          const { done, value } = await pieces.read();
          if (!done) return handed.enqueue(value);
          handed.close();
        } catch (error) {
          handed.error(error);
        }
        setTimeout(ended, MOMENT);
      },
      cancel(reason) {
        ended();
        return pieces.cancel(reason);
      },
    };
    return new Response(new ReadableStream(body, { highWaterMark: 0 }), answer);
  }

  async function follow(request, options) {
    const signal = request.signal ?? options?.signal; // gradio aborts a stream whose end it has read
    if (!signal || signal.aborted) return send(request, options);
    const ended = () => note(signal);
    note(signal, NaN);
    signal.addEventListener("abort", ended);
    try {
      const answer = await send(request, options);
      if (!answer.ok || signal.aborted) ended();
      else note(signal, Number(answer.headers.get("x-stream") ?? Infinity));
      return answer.ok ? watch(answer, ended) : answer;
    } catch (error) {
      ended();
      throw error;
    }
  }

  async function join(request, options) {
    const headers = new Headers(options?.headers ?? request.headers);
    headers.set("x-follows-streams", "1");
    const answer = await send(request, { ...options, headers });
    const ended = answer.headers.get("x-ended-stream");
    if (ended !== null) await settle(Number(ended));
    return answer;
  }

  window.fetch = (request, options) => {
    const path = new URL(request.url ?? request, location.href).pathname;
    if (path.endsWith("/queue/data")) return follow(request, options);
    return path.endsWith("/queue/join") ? join(request, options) : send(request, options);
  };
})();
