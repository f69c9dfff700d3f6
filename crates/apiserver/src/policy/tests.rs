//! Expressions of policies, without a store.

use super::*;

fn policy(spec: Value) -> Value {
    json!({ "metadata": { "name": "p" }, "spec": spec })
}

#[test]
fn a_policy_is_checked_before_it_is_stored() {
    let good = policy(json!({
        "variables": [{ "name": "most", "expression": "params == null ? 3 : params.data.most" }],
        "matchConditions": [{ "name": "c", "expression": "request.operation != 'DELETE'" }],
        "validations": [{ "expression": "object.spec.replicas <= variables.most", "messageExpression": "'at most ' + string(variables.most)" }],
    }));
    assert!(check(&good).is_empty(), "{:?}", check(&good));
    let bad = policy(json!({
        "validations": [
            { "expression": "object.spec.replicas <=" },
            { "expression": "'text'" },
            { "expression": "authorizer.group('').check('get').allowed()" },
        ],
        "auditAnnotations": [{ "key": "k", "valueExpression": "'v'" }],
    }));
    let fields: Vec<String> = check(&bad).into_iter().map(|error| error.field).collect();
    assert_eq!(
        fields,
        [
            "spec.validations[0].expression",
            "spec.validations[1].expression",
            "spec.validations[2].expression",
            "spec.auditAnnotations"
        ]
    );
}
