#!/bin/sh
# The paper's three kinds of table in small, on number paths: results.sh FOLDER. Stopped and started again, it goes on.
set -eu
out=$1
restmcts=${BIN:-.venv/bin}/restmcts
export OMP_NUM_THREADS=1
fast="--trees-in-flight 1100 --max-batch-tokens 65536"
searches=greedy,self-consistency,best-of-n,best-of-n-min,gated-best-of-n,sc-value,step-beam,tot-bfs,gated-tot-dfs
searches=$searches,mcts-star,mcts-star-parallel,gated-mcts-star,best-first

"$restmcts" compare --methods rest-mcts-paper,rest-em,self-rewarding,rest-best-first --seeds 3 --difficulty 3-6 \
    --set puzzles.searched=2200 --budget-tokens 110 --workdir "$out/training" --markdown "$out/training.md"
# Where trees pay: map NAME OPTIONS... makes a setting of the map.
map() {
    name=$1; shift
    "$restmcts" compare "$@" --methods rest-em,rest-mcts,rest-forked --workdir "$out/map-$name" \
        --markdown "$out/map-$name.md" --json >"$out/map-$name.json"
}
map easy --difficulty 3-6 --seeds 20,21,22,23,24,25
map hard --difficulty 6-8 --seeds 20,21,22,23,24,25
map few --difficulty 6-8 --seeds 20,21,22 --set puzzles.demonstrations=600
map many --difficulty 6-8 --seeds 20,21,22 --set puzzles.demonstrations=5000 --set seed_training.num_steps=1500
map words examples/word-problems.toml --seeds 20,21,22
map harder-words examples/word-problems.toml --difficulty 4-5 --seeds 20,21,22
"$restmcts" gains "$out"/map-easy.json "$out"/map-hard.json "6-8, 600 demonstrations=$out/map-few.json" \
    "6-8, 5,000 demonstrations=$out/map-many.json" "$out"/map-words.json "$out"/map-harder-words.json \
    --markdown "$out/gains.md" --svg "$out/gains.svg"

# What each part of the method is worth: part NAME OPTIONS...
part() {
    name=$1; shift
    "$restmcts" compare "$@" --seeds 20,21,22,23 --difficulty 6-8 --workdir "$out/part-$name" --markdown "$out/part-$name.md"
}
part methods --methods rest-mcts,rest-best-first,rest-forked,rest-mcts-probed,rest-mcts-restarts,rest-mcts-paper
part twice --methods rest-mcts --repeats 2
for learner in decisive awr sibling-dpo tree-pg; do part "$learner" --methods rest-mcts --learner "$learner"; done
part rounds --methods rest-mcts --set rounds=3
part packing --methods rest-mcts --set policy_training.tree_packing=true

for seed in 0 1 2; do
    models="--problem-seed $seed --iterations-of $out/training:rest-mcts-paper-$seed@2"
    "$restmcts" evaluate number-paths $models $fast --budgets 40,80,160,320 --out "$out/verifiers-$seed" \
        --verifiers-from demo:2200 --methods greedy,self-consistency,orm,sc-orm,ms,sc-ms,best-of-n,sc-value
    "$restmcts" evaluate number-paths $models $fast --budgets 60,90,130,300 --out "$out/searches-$seed" --methods "$searches"
done
"$restmcts" pool "$out/verifiers-0" "$out/verifiers-1" "$out/verifiers-2" --out "$out/verifiers"
"$restmcts" pool "$out/searches-0" "$out/searches-1" "$out/searches-2" --out "$out/searches"
