"""The clients of TF Serving against a server that speaks as its documentation says."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tests.serving import c_api, cases, stand_in
from xdeepint_ext import serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.serving import messages, rest
from xdeepint_ext.serving.client import GrpcClient, RestClient, ServingError, connect, main
from xdeepint_ext.serving.rows import RowError, examples, typed

SHARED = ("user", "country", "history", "age", "hour")
SIGNATURES = ("predict_raw", "preprocess", "rank", "serving_default")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    case = cases.case()
    model = case.model()
    return case, model, serving.export(model, case.preprocessor, tmp_path_factory.mktemp("client"), prune=False)


@pytest.fixture(scope="module")
def addresses(exported):
    loaded = tf.saved_model.load(exported[2])

    def compute(signature, inputs):
        feed = {name: tf.constant(array) for name, array in inputs.items()}
        return {name: value.numpy() for name, value in loaded.signatures[signature](**feed).items()}

    with stand_in.serving(stand_in.Model("clicks", exported[2], compute)) as found:
        yield dict(zip(("grpc", "rest"), found, strict=True))


def clients(addresses):
    return [
        connect(addresses["grpc"], "clicks"),
        connect(addresses["rest"], "clicks", version=1),
        RestClient(addresses["rest"], "clicks", form="instances"),
    ]


def test_the_address_says_which_protocol(addresses):
    assert [type(client) for client in clients(addresses)] == [GrpcClient, RestClient, RestClient]


def test_signatures_are_those_of_the_saved_model(exported, addresses):
    loaded = tf.saved_model.load(exported[2]).signatures
    for client in clients(addresses):
        assert tuple(client.signatures) == SIGNATURES
        for name, found in client.signatures.items():
            for key, spec in loaded[name].structured_input_signature[1].items():
                assert found.inputs[key].shape.as_list() == spec.shape.as_list()
                assert found.inputs[key].dtype == spec.dtype
            assert set(found.outputs) == set(loaded[name].structured_outputs)


def test_every_way_gives_the_model_s_scores(exported, addresses):
    case, model, _ = exported
    expected = case.scores(model)
    for client in clients(addresses):
        for signature in ("predict_raw", "serving_default"):
            found = client.query(case.rows, signature)
            assert set(found) == set(expected)
            for name, values in expected.items():
                np.testing.assert_allclose(found[name], values, rtol=2e-7, atol=1e-6, err_msg=f"{signature} {name}")
        ids = client.query(json.dumps(case.rows), "preprocess")
        np.testing.assert_array_equal(ids["video"], case.features["video"].numpy())


def test_rank_has_one_user(exported, addresses):
    case, _, _ = exported
    rows = [{**row, **{name: case.rows[0][name] for name in SHARED}} for row in case.rows[:5]]
    grpc_client, rest_client, by_row = clients(addresses)
    expected = grpc_client.query(rows, "predict_raw")["logit"]
    for client in (grpc_client, rest_client):
        np.testing.assert_allclose(client.query(rows, "rank")["logit"], expected, rtol=2e-7, atol=1e-6)
    with pytest.raises(ValueError, match="form=instances takes columns of one length"):
        by_row.query(rows, "rank")


def test_messages_and_bodies_carry_a_request_to_the_c_api_and_back(exported):
    """What a server does between the bytes that it receives and those that it sends, with TF Serving's own loader."""
    case, model, folder = exported
    columns = raw_signature(case.schema)
    asked = {"predict_raw": typed(case.rows, columns), "serving_default": {"examples": examples(case.rows, columns)}}
    received = {
        name: predict_pb2.PredictRequest.FromString(messages.predict_request(x, name, "m").SerializeToString())
        for name, x in asked.items()
    }
    definitions = c_api.meta_graph(folder).signature_def
    arrays, names = [], []
    for name, request in received.items():
        inputs = definitions[name].inputs
        arrays.append({key: tf.make_ndarray(proto) for key, proto in request.inputs.items()})
        for form in rest.FORMS:
            columns = stand_in.columns_of(json.loads(rest.predict_body(asked[name], name, form)))
            arrays.append({key: stand_in.array_of(value, inputs[key].dtype) for key, value in columns.items()})
        names += [name] * (1 + len(rest.FORMS))
    answers = c_api.run_signatures([(folder, n, inputs) for n, inputs in zip(names, arrays, strict=True)])
    expected = case.scores(model)
    specs = dict.fromkeys(expected, tf.TensorSpec((None, 1), tf.float32))
    for answer in answers:
        response = messages.predict_response(answer, "predict_raw", "m", 1).SerializeToString()
        by_grpc = messages.predicted(predict_pb2.PredictResponse.FromString(response))
        columns = {k: v.tolist() for k, v in answer.items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        by_rest = [rest.reply_arrays(json.dumps(body), specs) for body in ({"outputs": columns}, {"predictions": rows})]
        for found in (by_grpc, *by_rest):
            for name, values in expected.items():
                assert found[name].dtype == np.float32
                np.testing.assert_allclose(found[name], values, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("text", ["é ☃", "", "\u202eright to left", "tab\tand\nline"])
@pytest.mark.parametrize("form", rest.FORMS)
def test_any_text_and_number_comes_through_a_body(text, form):
    raw = [text.encode(), b"\xff\x00\x01"]
    numbers = np.array([np.nan, np.float32(0.1)], np.float32)
    body = json.loads(rest.predict_body({"text": np.array(raw, object), "number": numbers}, "s", form))
    columns = body.get("inputs") or {key: [row[key] for row in body["instances"]] for key in ("text", "number")}
    assert stand_in.array_of(columns["text"], tf.string).tolist() == raw
    np.testing.assert_array_equal(np.array(columns["number"], np.float32), numbers)
    spec = {"text": tf.TensorSpec((None,), tf.string)}
    assert rest.reply_arrays(json.dumps({"outputs": columns["text"]}), spec)["text"].tolist() == raw
    assert rest.reply_arrays(json.dumps({"predictions": columns["text"]}), spec)["text"].tolist() == raw


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_errors_say_what_came_and_what_was_expected(exported, addresses, protocol):
    case, _, _ = exported
    client = connect(addresses[protocol], "clicks")
    with pytest.raises(ValueError, match="no signature 'guess'; it has"):
        client.query(case.rows, "guess")
    with pytest.raises(ValueError, match=r"takes \['examples'\], got \['rows'\]"):
        client.predict({"rows": [b""]})
    with pytest.raises(RowError, match="row 1, column 'hour': expected a whole number, got 'x'"):
        client.query([{**case.rows[0], "hour": "x"}])
    with pytest.raises(ServingError, match="Servable not found"):
        connect(addresses[protocol], "no_model").signatures  # noqa: B018
    with pytest.raises(ServingError, match="localhost:1"):
        connect({"grpc": "", "rest": "http://"}[protocol] + "localhost:1", "clicks", timeout=2).signatures  # noqa: B018


@pytest.mark.parametrize("text", ["<html>", "[1]", "{}", '{"error": "full"}', '{"outputs": {"other": [1]}}'])
def test_replies_of_others_are_refused(text):
    specs = {name: tf.TensorSpec((None, 1), tf.float32) for name in ("logit", "probability")}
    with pytest.raises(ValueError, match=r"not JSON|JSON object|must have|full"):
        rest.reply_arrays(text, specs)
    with pytest.raises(ValueError, match=r"not JSON|JSON object|must have|full"):
        rest.reply_signatures(text)


def test_the_command_prints_a_line_a_row(exported, addresses, tmp_path, capsys):
    case, model, _ = exported
    (tmp_path / "rows.json").write_text(json.dumps([{**row, "note": 1} for row in case.rows]))
    for address in addresses.values():
        arguments = [f"--address={address}", "--model=clicks", f"--input={tmp_path / 'rows.json'}"]
        assert main(arguments) == 0
        printed = capsys.readouterr()
        found = [json.loads(line)["logit"] for line in printed.out.splitlines()]
        np.testing.assert_allclose(found, case.scores(model)["logit"][:, 0], rtol=2e-7, atol=1e-6)
        assert printed.err == "columns that the model does not take: ['note']\n"
        assert main([*arguments, "--signatures"]) == 0
        assert "  -> examples: string (None,)" in capsys.readouterr().out.splitlines()
        assert main([*arguments, "--signature=guess"]) == 1
        assert capsys.readouterr().err.startswith("client: the model has no signature 'guess'")
