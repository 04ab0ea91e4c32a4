"""Choice scores of tails under pathways, against naive full forwards; and what they cost."""

import pytest
import torch
from routing.naive import FAMILIES, SCOPES, along, choice_scores, moved, own_routing, shared_model, tail_scores_of
from routing.toys import questions

from c3po_adaptive.ledger import Entry
from c3po_adaptive.types import Pathway, Prompt


@pytest.mark.parametrize("family", ["gpt_oss", "deepseek", "jamba"])
def test_scores_along_the_own_pathway_do_not_depend_on_where_another_would_act(family):
    """Of windows, a dense layer first, and states that are carried along."""
    model = shared_model(family)
    for options in (((40, 41), (42,)), ((40,), (42,))):
        prompts = [Prompt(tuple(range(5, 25)), options, (2.0, 1.0), after=after) for after in (0, 7, 19)]
        states = model.prefill(prompts)
        for state in states[1:]:
            torch.testing.assert_close(state.token_scores, states[0].token_scores, atol=1e-4, rtol=1e-4)
            assert not torch.equal(state.own, states[0].own)


@pytest.mark.parametrize("family", FAMILIES)
class TestTailScores:
    def test_counts_each_samples_share(self, family):
        model = shared_model(family)
        states = model.prefill([model.encode(q) for q in questions(3)])
        own = torch.stack([s.own for s in states[:2]])
        pathway = moved(Pathway(own, own, model.layers), layers=(2,))
        tail = tail_scores_of(model, states, torch.tensor([0, 1, 1]), own, pathway.changed())
        assert tail.spent == [Entry(), Entry()]
        with torch.no_grad():
            tail(pathway.weights)
        once = list(tail.spent)
        assert once[1].flops > once[0].flops > 0
        with torch.no_grad():
            tail(pathway.weights)
        assert tail.spent == [a + a for a in once]
        tail(pathway.weights.clone().requires_grad_())
        assert all(b.flops > 3 * a.flops for a, b in zip(once, tail.spent, strict=True)), "the way back counts too"

    def test_a_sample_without_active_layers_is_left_alone(self, family):
        model = shared_model(family)
        states = model.prefill([model.encode(q) for q in questions(2)])
        own = torch.stack([s.own for s in states])
        pathway = moved(Pathway(own, own, model.layers))
        active = torch.tensor([[False] * 3, [False, True, True]])
        with torch.no_grad():
            scores = tail_scores_of(model, states, torch.arange(2), own, active)(pathway.weights)
        base = model.choice_scores(states)
        assert torch.equal(scores[0, : len(base[0])], base[0]), "bit for bit"
        assert (scores[1, : len(base[1])] - base[1]).abs().max() > 1e-4

    def test_a_batch_costs_what_its_tails_cost_alone(self, family):
        """Whatever their lengths, and wherever each sample's layers begin."""
        model = shared_model(family)
        states = model.prefill([model.encode(q) for q in questions(4)])
        own = torch.stack([s.own for s in states])
        layers = [(2,), (0, 2), (1,), (1, 2)]
        pathways = [moved(Pathway(o, o, model.layers), layers=x) for o, x in zip(own, layers, strict=True)]
        weights = torch.stack([p.weights for p in pathways])
        active = torch.stack([p.changed() for p in pathways])
        with torch.no_grad():
            together = tail_scores_of(model, states, torch.arange(4), own, active)
            together(weights)
            for i, state in enumerate(states):
                alone = tail_scores_of(model, [state], torch.zeros(1).long(), own[[i]], active[[i]])
                alone(weights[[i]])
                assert together.spent[i] == alone.spent[0]

    def test_tokens_that_are_given_count_for_nothing(self, family):
        """Of prompts with and without them side by side; along the model's own pathway, and along another."""
        model = shared_model(family)
        prompts = [
            Prompt((5, 6, 7, 8), ((40, 41, 50, 51), (42, 50, 51)), (2.0, 2.0), given=(2, 1)),
            Prompt((9, 6, 7), ((40, 41), (42, 50, 51)), (2.0, 3.0)),
        ]
        states = model.prefill(prompts)
        own = torch.stack([s.own for s in states])
        pathway = moved(Pathway(own, own, model.layers))
        with torch.no_grad():
            found = tail_scores_of(model, states, torch.arange(2), own, pathway.changed())(pathway.weights)
        for i, prompt in enumerate(prompts):
            edit = along(pathway.weights[i], own[i], len(prompt.ids) - 1)
            for scores, expected in (
                (model.choice_scores([states[i]])[0], choice_scores(model.model, prompt)),
                (found[i], choice_scores(model.model, prompt, edit)),
            ):
                torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("scope", SCOPES)
    @pytest.mark.parametrize("transfer", ["replace", "shift"])
    def test_a_pathway_may_act_on_an_earlier_token(self, family, scope, transfer):
        model = shared_model(family)
        options = ((40, 41), (42,)), (2.0, 1.0)
        prompts = [Prompt(tuple(range(5, 12)), *options, after=after) for after in (0, 2, 6)]
        states = model.prefill(prompts, scope=scope)
        own = torch.stack([s.own for s in states])
        pathway = moved(Pathway(own, own, model.layers))
        with torch.no_grad():
            tails = tail_scores_of(
                model, states, torch.arange(3), own, pathway.changed(), scope=scope, transfer=transfer
            )
            found = tails(pathway.weights)
        for i, prompt in enumerate(prompts):
            acting = 6 - prompt.after
            weights, _ = own_routing(model.model, prompt.ids)
            torch.testing.assert_close(own[i], weights[acting])
            edit = along(pathway.weights[i], own[i], acting, scope=scope, transfer=transfer, last=6)
            expected = choice_scores(model.model, prompt, edit)
            torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=1e-4)
            last = model.model.get_decoder()(torch.tensor([prompt.ids])).last_hidden_state[0, -1]
            torch.testing.assert_close(states[i].last_hidden, last, atol=1e-4, rtol=1e-4)

    def test_letters_alone_are_the_likelihoods_up_to_a_number(self, family):
        """The head for the letters only: the same differences between choices, the same gradient, less work."""
        model = shared_model(family)
        assert model.letters_alone
        options, lengths = ((40,), (41,), (43,)), (1.0,) * 3
        states = model.prefill([Prompt(tuple(range(5, 5 + n)), options, lengths) for n in (7, 9, 20)])
        own = torch.stack([s.own for s in states])
        pathway = moved(Pathway(own, own, model.layers), layers=(1, 2))
        losses, work = [], []
        for relative in (False, True):
            weights = pathway.weights.clone().requires_grad_()
            tails = tail_scores_of(model, states, torch.arange(3), own, pathway.changed(), relative=relative)
            logs = tails(weights).log_softmax(-1)
            losses.append((logs, *torch.autograd.grad(logs[:, 0].sum(), weights)))
            work.append(sum(entry.forward.head for entry in tails.spent))
        for full, letters in zip(*losses, strict=True):
            torch.testing.assert_close(letters, full, atol=1e-5, rtol=1e-5)
        assert work[1] < work[0] / 30

    def test_options_of_several_tokens_pass_the_whole_head(self, family):
        model = shared_model(family)
        states = model.prefill([model.encode(q) for q in questions(2)])
        own = torch.stack([s.own for s in states])
        pathway = moved(Pathway(own, own, model.layers))
        with torch.no_grad():
            plain, relative = (
                tail_scores_of(model, states, torch.arange(2), own, pathway.changed(), relative=r)(pathway.weights)
                for r in (False, True)
            )
        assert torch.equal(plain, relative)
