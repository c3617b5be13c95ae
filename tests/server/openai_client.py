"""What programs do with OpenAI's Python client, against `flexq serve`.

    openai_client.py http://HOST:PORT      the key is sk-test, the model "tiny"
"""

import sys

import openai

address = sys.argv[1]
client = openai.OpenAI(base_url=address + "/v1", api_key="sk-test", max_retries=0)
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Who was the king?"}]},
]


def refused(error_type, call):
    try:
        call()
    except error_type as error:
        return error
    raise AssertionError(f"expected {error_type.__name__}")


assert [model.id for model in client.models.list()] == ["tiny"]

# Chat, whole and streamed.
chat = dict(model="tiny", messages=MESSAGES, max_completion_tokens=12, temperature=0, seed=1)
whole = client.chat.completions.create(**chat, logprobs=True, top_logprobs=2)
choice = whole.choices[0]
assert whole.object == "chat.completion" and choice.message.role == "assistant"
assert choice.finish_reason in ("stop", "length")
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert whole.usage.prompt_tokens_details.cached_tokens >= 0
assert len(choice.logprobs.content) == whole.usage.completion_tokens
assert all(len(entry.top_logprobs) == 2 for entry in choice.logprobs.content)

text, usage = "", None
for chunk in client.chat.completions.create(
    **chat, stream=True, stream_options={"include_usage": True}
):
    usage = chunk.usage or usage
    for part in chunk.choices:
        text += part.delta.content or ""
assert text == choice.message.content, (text, choice.message.content)
assert usage.completion_tokens == whole.usage.completion_tokens

# Completions: several prompts and answers, log probabilities, token ids.
answer = client.completions.create(
    model="tiny", prompt=["The city", "In 1914"], n=2, max_tokens=5, logprobs=3, seed=4
)
assert [c.index for c in answer.choices] == [0, 1, 2, 3]
assert all(len(c.logprobs.tokens) == len(c.logprobs.top_logprobs) for c in answer.choices)
streamed = "".join(
    chunk.choices[0].text
    for chunk in client.completions.create(
        model="tiny", prompt=[5, 6, 7], max_tokens=8, temperature=0, stream=True
    )
)
same = client.completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=8, temperature=0)
assert streamed == same.choices[0].text

# A stream that the program leaves.
with client.completions.create(
    model="tiny", prompt="x", max_tokens=400, stream=True, extra_body={"ignore_eos": True}
) as stream:
    next(iter(stream))

# Errors arrive as the client's exceptions.
error = refused(openai.BadRequestError, lambda: client.completions.create(model="tiny", prompt="x", n=0))
assert error.param == "n" and error.type == "invalid_request_error"
tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
error = refused(openai.BadRequestError, lambda: client.chat.completions.create(**chat, tools=tools))
assert error.param == "tools"
refused(openai.NotFoundError, lambda: client.completions.create(model="gpt-4", prompt="x"))
other = openai.OpenAI(base_url=address + "/v1", api_key="wrong", max_retries=0)
refused(openai.AuthenticationError, lambda: other.models.list())
print("openai", openai.__version__, "done")
