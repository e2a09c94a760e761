import torch

from gecko_fret.llm.decoder import Decoder
from gecko_fret.llm.stream import Stream


def test_rows_grow_and_leave_as_if_each_were_alone(tiny_model, word_tokenizer):
    def ids(text):
        return word_tokenizer(text, add_special_tokens=False)["input_ids"]

    decoder = Decoder(tiny_model, "tiny", ids)
    prefixes, bodies = ["a cat", "", "the dog"], [ids("sat on"), ids("the mat is far"), ids("ran")]
    wanted = [ids(prefix) + body for prefix, body in zip(prefixes, bodies, strict=True)]

    def alone(row):
        with torch.no_grad():
            return tiny_model(torch.tensor([row])).logits[0, -1]

    with torch.inference_mode():
        stream = Stream(decoder, prefixes, bodies)
        alive = [0, 1, 2]
        for step, going in enumerate(([0, 1, 2], [0, 2], [1], [0])):
            logits = stream.logits()
            assert len(logits) == len(alive)
            for row, place in zip(logits, alive, strict=True):
                torch.testing.assert_close(row, alone(wanted[place]), atol=1e-4, rtol=1e-4)
            chosen = torch.tensor([5 + step + place for place in alive])
            for place, token in zip(alive, chosen.tolist(), strict=True):
                wanted[place].append(token)
            stream.extend(chosen, going)
            alive = [alive[number] for number in going]
    assert alive == [2]
